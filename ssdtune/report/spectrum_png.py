"""The figures of a Fisher analysis as one picture (matplotlib: Plotly would need a browser to make a PNG)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssdtune.files import atomic_path
from ssdtune.report.spectrum import (
    PERCENT,
    PUBLISHED_ALPHA,
    SELECTING,
    SpectrumView,
    colour_range,
    damage_map,
    ratio_histogram,
)
from ssdtune.report.style import FORGET, GREEN, MUTED, PURPLE, QUIET, RETAIN, few_numbers, matplotlib_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def write_spectrum_png(view: SpectrumView, path: Path | str, title: str) -> Path:
    """Write spectra, ratios, depth and both damage surfaces as one PNG, whole or not at all.

    Raises DataError: ``path`` cannot be written.
    """
    import matplotlib

    with matplotlib.rc_context(matplotlib_settings()):
        figure = _draw(view, title)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")
    return Path(path)


def _draw(view: SpectrumView, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 9), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.12))
    top, bottom = (figure.add_subfigure(grid[row]) for row in range(2))
    for axes, draw in zip(top.subplots(1, 3), (_eigenvalues, _ratios, _depth), strict=True):
        draw(axes, view)
    _damage(bottom, view)
    return figure


def _eigenvalues(axes: Axes, view: SpectrumView) -> None:
    for name, colour, marker in (("forget", FORGET, "o"), ("retain", RETAIN, "D")):
        values = view.eigenvalues[name]
        label = f"{name} (effective rank {view.effective_rank[name]:.1f})"
        axes.plot(np.arange(1, len(values) + 1), values, marker=marker, ms=4, color=colour, label=label)
    axes.set(title="Fisher spectra", xlabel="rank i", ylabel="eigenvalue $\\lambda_i$", xscale="log")
    if any(map(len, view.eigenvalues.values())):
        axes.set_yscale("log")
    few_numbers(axes.xaxis)
    axes.legend(loc="lower left")


def _ratios(axes: Axes, view: SpectrumView) -> None:
    edges, percent = ratio_histogram(view.ratios)
    low, high = (float(view.ratios.alpha_at(share)) for share in reversed(SELECTING))
    axes.axvspan(low, high, color=GREEN, alpha=0.16, lw=0, label=f"selects {PERCENT}")
    axes.stairs(percent, edges, fill=True, color=QUIET, alpha=0.45)
    axes.stairs(percent, edges, color=QUIET)
    axes.axvline(PUBLISHED_ALPHA, color=PURPLE, ls="--", lw=1.6, label=f"default alpha = {PUBLISHED_ALPHA:g}")
    axes.set(xscale="log", xlabel="ratio r = f / o, threshold alpha", ylabel="parameters per bin, %")
    axes.set_title("Ratios, and the alpha worth trying")
    axes.margins(x=0)
    axes.set_ylim(0, 1.28 * (percent.max(initial=0.0) or 1.0))
    axes.legend(loc="upper left", ncols=2)


def _depth(axes: Axes, view: SpectrumView) -> None:
    places = np.arange(len(view.depth))
    for shift, (name, colour) in zip((0.2, -0.2), (("retain", RETAIN), ("forget", FORGET)), strict=True):
        shares = [100 * sets[name] for sets in view.depth.values()]
        axes.barh(places + shift, shares, 0.4, color=colour, label=name, zorder=2)
    axes.set_yticks(places, list(view.depth))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(title="Where the sets are sensitive", xlabel="share of the Fisher trace, %")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1])


def _damage(figure: SubFigure, view: SpectrumView) -> None:
    pair = figure.subplots(1, 2, sharex=True, sharey=True)
    maps = {name: damage_map(view, name) for name in ("retain", "forget")}
    low, high = colour_range(*maps.values())
    for axes, (name, values) in zip(pair, maps.items(), strict=True):
        mesh = axes.pcolormesh(view.alphas, view.lams, values, vmin=low, vmax=high, shading="nearest", rasterized=True)
        axes.fill_between(view.alphas, view.alphas, view.lams[-1], color=MUTED, lw=0)
        axes.text(0.03, 0.95, "lambda > alpha does\nwhat alpha = lambda does", transform=axes.transAxes, va="top")
        axes.set(xscale="log", yscale="log", xlabel="threshold alpha", title=f"Predicted loss increase, {name} set")
        axes.set(xlim=view.alphas[[0, -1]], ylim=view.lams[[0, -1]])
        axes.grid(visible=False)
        few_numbers(axes.xaxis)
    pair[0].set_ylabel("dampening lambda")
    bar = figure.colorbar(mesh, ax=pair, pad=0.02, label="loss increase, $\\frac{1}{2}\\,\\delta^T F\\,\\delta$")
    ticks = [float(tick) for tick in np.arange(np.ceil(low), np.floor(high) + 1)]
    bar.set_ticks(ticks, labels=[f"$10^{{{tick:.0f}}}$" for tick in ticks])
    bar.outline.set_visible(False)
