"""What a Fisher analysis looks like: spectra, ratios, depth and damage, as Plotly figures by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from ssdtune.arrays import Array
from ssdtune.fisher import depth
from ssdtune.fisher.damage import DamageTerms
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.fisher.statistics import above_rounding
from ssdtune.report.chart import line, new_chart, translucent
from ssdtune.report.style import FORGET, GREEN, MUTED, PURPLE, QUIET, RETAIN, SEQUENTIAL, polish

SELECTING = (0.001, 0.5)
"""Selected fractions between which the ratio histogram is shaded: where SSD has a choice."""
PERCENT = f"{100 * SELECTING[1]:g} % to {100 * SELECTING[0]:g} %"
PUBLISHED_ALPHA = 10.0  # the published code's default
DECADES = 5  # of damage that the colours span


@dataclass(frozen=True, eq=False)
class SpectrumView:
    """What the figures show.

    eigenvalues : by set (``forget``, ``retain``), falling. effective_rank : by set. depth : stage -> share of each
    set's Fisher trace, by set. alphas (A,), lams (L,), damage (A, L) : the damage plane.
    """

    eigenvalues: Mapping[str, Array]
    effective_rank: Mapping[str, float]
    ratios: SortedRatios
    depth: Mapping[str, Mapping[str, float]]
    alphas: Array
    lams: Array
    damage: DamageTerms


def view_spectrum(analysis: FisherAnalysis) -> SpectrumView:
    """What an analysis has to show; the damage plane is worked out here, without a forward pass."""
    sets = {"forget": analysis.forget, "retain": analysis.retain}
    values = analysis.features()
    shares = {name: depth.stage_shares(analysis.layout, part.diagonal) for name, part in sets.items()}
    alphas, lams = plane_axes(analysis.ratios)
    return SpectrumView(
        eigenvalues={name: above_rounding(part.spectrum.eigenvalues) for name, part in sets.items()},
        effective_rank={name: values[f"{name}_effective_rank"] for name in sets},
        ratios=analysis.ratios,
        depth={stage: {name: shares[name][stage] for name in sets} for stage in shares["forget"]},
        alphas=alphas,
        lams=lams,
        damage=analysis.damage(alphas[:, None], lams),
    )


def plane_axes(ratios: SortedRatios, points: int = 40) -> tuple[Array, Array]:
    """(alphas, lams), log-spaced: alpha selects from 90 % down to 0.01 %, lambda starts at a tenth of that."""
    low, high = ratios.alpha_at([0.9, 1e-4])
    if not low < high:
        low, high = low / 10, high * 10
    return np.geomspace(low, high, points), np.geomspace(low / 10, high, points)


def spectrum_figures(view: SpectrumView) -> dict[str, go.Figure]:
    """Plotly figures by id: ``spectrum-eigenvalues``, ``-ratios``, ``-depth``, ``-damage``."""
    return {
        "spectrum-eigenvalues": eigenvalue_figure(view),
        "spectrum-ratios": ratio_figure(view.ratios),
        "spectrum-depth": depth_figure(view.depth),
        "spectrum-damage": damage_figure(view),
    }


def eigenvalue_figure(view: SpectrumView) -> go.Figure:
    """Both spectra on log axes."""
    ranks = {"title": "rank i", **log_axis([1.0, max(map(len, view.eigenvalues.values()))])}
    values = np.concatenate(list(view.eigenvalues.values()))
    figure = new_chart("Fisher spectra", ranks, {"title": "eigenvalue λ<sub>i</sub>", **log_axis(values)})
    for name, colour, symbol in (("forget", FORGET, "circle"), ("retain", RETAIN, "diamond")):
        values = view.eigenvalues[name]
        figure.add_scatter(
            x=np.arange(1, len(values) + 1),
            y=values,
            name=f"{name} (effective rank {view.effective_rank[name]:.1f})",
            mode="lines+markers",
            line=line(colour),
            marker={"color": colour, "symbol": symbol, "size": 6},
            hovertemplate=f"{name} λ<sub>%{{x}}</sub> = %{{y:.3g}}<extra></extra>",
        )
    return figure


def ratio_figure(ratios: SortedRatios) -> go.Figure:
    """Histogram of the ratios, with the alpha that select 0.1 % to 50 % shaded."""
    title = "Ratios r = f / o, and the alpha worth trying"
    edges, percent = ratio_histogram(ratios)
    axis = {"title": "ratio r, and threshold alpha", **log_axis(edges)}
    figure = new_chart(title, axis, {"title": "parameters per bin, %", "rangemode": "tozero"})
    top = 1.08 * (percent.max(initial=0.0) or 1.0)
    low, high = (float(ratios.alpha_at(share)) for share in reversed(SELECTING))
    shade = {"fill": "toself", "line": line(GREEN, 0), "fillcolor": translucent(GREEN, 0.16)}
    drawn = {"mode": "lines", "hoverinfo": "skip"}
    name = f"alpha in [{low:.3g}, {high:.3g}] selects {PERCENT}"
    figure.add_scatter(x=[low, low, high, high], y=[0, top, top, 0], name=name, **shade, **drawn)
    figure.add_scatter(
        x=edges,
        y=np.append(percent, 0.0),
        name="parameters",
        mode="lines",
        line=line(QUIET, 1.5, shape="hv"),
        fill="tozeroy",
        fillcolor=translucent(QUIET, 0.35),
        customdata=100 * ratios.selected_fraction(edges),
        hovertemplate="alpha = %{x:.3g} selects %{customdata:.3g} %<extra></extra>",
    )
    name = f"published default alpha = {PUBLISHED_ALPHA:g}"
    figure.add_scatter(x=[PUBLISHED_ALPHA] * 2, y=[0, top], name=name, line=line(PURPLE, 2, "dash"), **drawn)
    return figure


def log_axis(values: ArrayLike) -> dict[str, Any]:
    """Plotly settings of a log axis for ``values``: decades where there are two or more, else 2 and 5 between them."""
    found = np.asarray(values, np.float64)
    decades = np.log10(found.max() / found.min()) if found.size and found.min() > 0 else 0.0
    return {"type": "log", "exponentformat": "power", "dtick": max(1, round(decades / 8)) if decades >= 2 else "D2"}


def ratio_histogram(ratios: SortedRatios, bins: int = 100) -> tuple[Array, Array]:
    """(bins + 1 log-spaced edges, percent of all parameters in each bin) of the finite ratios above 0.

    The outermost 0.01 % on either side are left out of the range.
    """
    finite = ratios.values[ratios.infinite : ratios.positive]
    if not len(finite):
        return np.geomspace(0.1, 10.0, bins + 1), np.zeros(bins)
    cut = int(1e-4 * len(finite))
    high, low = float(finite[cut]), float(finite[-1 - cut])
    edges = np.geomspace(low / 1.05, high * 1.05, bins + 1)
    counts = ratios.counts(edges)
    return edges, 100 * (counts[:-1] - counts[1:]) / ratios.size


def depth_figure(shares: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Where in the network each set's Fisher trace lies."""
    figure = new_chart("Where the sets are sensitive", {"title": ""}, {"title": "share of the Fisher trace, %"})
    for name, colour in (("forget", FORGET), ("retain", RETAIN)):
        figure.add_bar(
            x=list(shares),
            y=[100 * sets[name] for sets in shares.values()],
            name=name,
            marker={"color": colour},
            hovertemplate="%{x}: %{y:.3g} %<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.25)
    return figure


def damage_figure(view: SpectrumView) -> go.Figure:
    """Predicted loss increase of both sets over (alpha, lambda), side by side on one colour scale."""
    names = ("retain", "forget")
    titles = [f"{name} set" for name in names]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.09, shared_yaxes=True)
    title = "Predicted loss increase of a dampening, ½ δᵀF δ"
    note = "grey: lambda above alpha does what alpha = lambda does"
    polish(figure, f"{title}<br><span style='font-size:12px'>{note}</span>", 460)
    maps = [damage_map(view, name) for name in names]
    low, high = colour_range(*maps)
    details = np.stack([100 * view.damage.selected_fraction.T, 100 * view.damage.relative_change.T], axis=-1)
    top = view.lams[-1]
    for column, values in enumerate(maps, start=1):
        figure.add_heatmap(
            x=view.alphas,
            y=view.lams,
            z=values.astype(np.float32),
            customdata=details.astype(np.float32),
            coloraxis="coloraxis",
            hovertemplate=(
                "alpha %{x:.3g}, lambda %{y:.3g}<br>loss + 10<sup>%{z:.2f}</sup><br>"
                "%{customdata[0]:.3g} % selected, |δ|/|θ| %{customdata[1]:.3g} %<extra></extra>"
            ),
            row=1,
            col=column,
        )
        x, y = [view.alphas[0], view.alphas[0], view.alphas[-1]], [view.alphas[0], top, top]
        grey = {"mode": "none", "fill": "toself", "fillcolor": MUTED, "showlegend": False, "hoverinfo": "skip"}
        figure.add_scatter(x=x, y=y, row=1, col=column, **grey)
    ends = [np.log10([axis[0], axis[-1]]).tolist() for axis in (view.alphas, view.lams)]
    figure.update_xaxes(title="threshold alpha", range=ends[0], showgrid=False, **log_axis(view.alphas))
    figure.update_yaxes(range=ends[1], showgrid=False, **log_axis(view.lams))
    figure.update_yaxes(title="dampening lambda", row=1, col=1)
    ticks = np.arange(np.ceil(low), np.floor(high) + 1)
    marks = {"tickvals": ticks.tolist(), "ticktext": [f"10<sup>{tick:.0f}</sup>" for tick in ticks]}
    colours = {"colorscale": SEQUENTIAL, "cmin": low, "cmax": high}
    bar = {"title": {"text": "loss +"}, "thickness": 14, **marks}
    figure.update_layout(margin={"t": 104, "b": 72}, coloraxis={**colours, "colorbar": bar})
    return figure


def damage_map(view: SpectrumView, name: str) -> Array:
    """(L, A) log10 of a set's full damage, not below -30."""
    damage = getattr(view.damage, f"{name}_full").T
    found: Array = np.log10(np.maximum(damage, 1e-30))
    return found


def colour_range(*maps: Array) -> tuple[float, float]:
    """(low, high) log10 of the highest decades that the maps reach together, at least one."""
    high = max(float(values.max()) for values in maps)
    low = max(min(float(values.min()) for values in maps), high - DECADES)
    return low, max(high, low + 1)
