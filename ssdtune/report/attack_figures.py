"""Attacks in pictures: quality against the size of the attack, and what it does to a slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssdtune.report.style import matplotlib_settings

COLOURS = {"untouched": "#0072b2", "unlearned": "#d55e00", "oracle": "#009e73"}

Bands = Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Mean, lowest and highest value at each size, by model."""


def draw_quality(path: Path, panels: Mapping[str, tuple[np.ndarray, Bands]], label: str = "SSIM") -> None:
    """A panel for each norm: (sizes (n,), bands) by its title."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
        for axes, (title, (sizes, bands)) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for model, (mean, low, high) in bands.items():
                axes.plot(sizes, mean, marker="o", ms=4, color=COLOURS.get(model), label=model)
                axes.fill_between(sizes, low, high, color=COLOURS.get(model), alpha=0.15, lw=0)
            axes.set(title=title, xlabel="eps", ylabel=label)
            axes.legend()
        figure.savefig(path, dpi=110, facecolor="white")


def draw_slice(path: Path, rows: Mapping[str, tuple[np.ndarray, np.ndarray]], target: np.ndarray, title: str) -> None:
    """A row for each model: its image before and after the attack, and the errors of both against the target;
    all (h, w)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    top = float(target.max())
    error = max(float(np.abs(image - target).max()) for pair in rows.values() for image in pair)
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(9, 2.2 * len(rows) + 0.4), layout="constrained")
        figure.suptitle(title)
        grid: Any = figure.subplots(len(rows), 4, squeeze=False)
        for line, (model, (before, after)) in zip(grid, rows.items(), strict=True):
            for place, (words, image) in zip(
                line,
                (
                    (model, before),
                    ("attacked", after),
                    ("error before", np.abs(before - target)),
                    ("error under attack", np.abs(after - target)),
                ),
                strict=True,
            ):
                is_error = words.startswith("error")
                place.imshow(image, cmap="magma" if is_error else "gray", vmin=0, vmax=error if is_error else top)
                place.set_title(words, fontsize=9)
                place.set_axis_off()
        figure.savefig(path, dpi=110, facecolor="white")


def draw_flip(path: Path, image: np.ndarray, attacked: np.ndarray, eps: float, logits: list[float]) -> None:
    """A healthy image, what makes a classifier see a lesion in it, and the difference, 10 times as strong."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    top = float(image.max())
    difference = 10 * (attacked - image)
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(7.5, 2.9), layout="constrained")
        words = (f"image, logit {logits[0]:.1f}", f"attacked, logit {logits[1]:.1f}", f"difference x 10, eps {eps:g}")
        for axes, title, shown in zip(figure.subplots(1, 3), words, (image, attacked, difference), strict=True):
            signed = shown is difference
            axes.imshow(shown, cmap="coolwarm" if signed else "gray", vmin=-top if signed else 0, vmax=top)
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
        figure.savefig(path, dpi=110, facecolor="white")
