"""A translator in one picture: its losses, and what it does to images that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssdtune.mri.translation.train import LOSSES


def draw_translator(
    path: Path,
    losses: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    lesions: np.ndarray,
    settings: dict[str, object],
) -> None:
    """Write a PNG: losses (steps, 4), images before and after (n, h, w) with their difference, and real lesions.

    settings : of matplotlib, for ``rc_context``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    count = len(before)
    with mpl.rc_context(settings):
        figure = Figure(figsize=(1.35 * count + 3.6, 5.6), layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=(3.6, 1.35 * count))
        left, right = halves
        axes = left.subplots()
        window = max(1, len(losses) // 60)
        for name, values in zip(LOSSES, losses.T, strict=True):
            smooth = np.convolve(values, np.ones(window) / window, "valid")
            axes.plot(np.arange(len(smooth)) + window, smooth, label=name)
        axes.set(title="Losses", xlabel="step", yscale="log")
        axes.legend()
        rows: Sequence[tuple[str, np.ndarray, str]] = (
            ("healthy", before, "gray"),
            ("translated", after, "gray"),
            ("difference", after - before, "coolwarm"),
            ("domain of lesions", lesions, "gray"),
        )
        grid = right.subplots(len(rows), count, squeeze=False)
        for line, (title, images, colours) in zip(grid, rows, strict=True):
            for place, image in zip(line, images, strict=True):
                bound = float(np.abs(image).max()) or 1.0
                place.imshow(image, cmap=colours, vmin=-bound if colours == "coolwarm" else 0, vmax=bound)
                place.set_axis_off()
            line[0].set_title(title, fontsize=9)
        figure.savefig(path, dpi=110, facecolor="white")
