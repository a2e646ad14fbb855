"""Figures of a competition of samplers: regret, trials to target, ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from ssdtune.report.chart import line, new_chart, translucent
from ssdtune.report.ranking import RankTest
from ssdtune.report.regret import Band, SolvedCurve
from ssdtune.report.style import GREY, RED, SERIES

_DASHES = ("solid", "dash", "dot")


def regret_figure(bands: Mapping[str, Band]) -> go.Figure:
    """Mean incumbent regret against the number of trials, with confidence bands."""
    y = {"title": "regret", "rangemode": "tozero"}
    chart = new_chart("Regret of the best trial so far", {"title": "trials"}, y)
    for place, (name, (centre, low, high)) in enumerate(bands.items()):
        _line_with_band(chart, place, name, (np.arange(1, len(centre) + 1), centre, low, high))
    return chart


def solved_figure(curves: Mapping[str, SolvedCurve]) -> go.Figure:
    """Share solved within n trials."""
    y = {"title": "share", "range": [0, 1.02], "tickformat": ".0%"}
    chart = new_chart("Share that has reached the target", {"title": "trials"}, y)
    for place, (name, curve) in enumerate(curves.items()):
        _line_with_band(chart, place, name, curve, shape="hv")
    return chart


def critical_difference_figure(test: RankTest, title: str, order: Sequence[str]) -> go.Figure:
    """The critical-difference diagram of Demsar (2006), figure 1: best rank left, bars join what does not differ.

    ``order`` is the samplers' order in the other figures, so that each keeps its colour.
    """
    names = list(test.mean_ranks)
    half = math.ceil(len(names) / 2)
    # rows below the axis: first the bars of the groups, then one leader line for every two samplers
    first = 0.6 + 0.35 * len(test.groups)
    depth = [first + 0.6 * min(place, len(names) - 1 - place) for place in range(len(names))]
    low, high = 1, len(names)
    width = 0.16 * max(high - low, 1)
    across = {"range": [low - 2.6 * width, high + 2.6 * width], "visible": False}
    down = {"range": [max(depth) + 0.5, -1.4], "visible": False}
    chart = new_chart(title, across, down, height=round(120 + 46 * (max(depth) + 1.4)))
    # on a narrow screen names need a third of its width on either side
    room = max(high - low, 1)
    narrow = {"xaxis": {"range": [low - room, high + room]}, "margin": {"l": 0, "r": 0, "b": 16}}
    chart.update_layout(showlegend=False, margin={"b": 24}, meta=narrow)
    chart.add_scatter(x=[low, high], y=[0, 0], mode="lines", line=line(GREY, 2), hoverinfo="skip", name="axis")
    for tick in range(low, high + 1):
        _label(chart, tick, -0.25, str(tick), "center")
        chart.add_shape(type="line", x0=tick, x1=tick, y0=0, y1=-0.12, line=line(GREY, 2))
    for place, (name, rank) in enumerate(test.mean_ranks.items()):
        left = place < half
        end = low - width if left else high + width
        chart.add_scatter(
            x=[rank, rank, end],
            y=[0, depth[place], depth[place]],
            mode="lines",
            line=line(SERIES[order.index(name) % len(SERIES)], 1.8),
            name=name,
            hovertemplate=f"{name}: mean rank {rank:.3f}<extra></extra>",
        )
        text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
        _label(chart, end, depth[place], f" {text} ", "right" if left else "left")
    for row, group in enumerate(test.groups):
        ends = [test.mean_ranks[group[0]] - 0.03, test.mean_ranks[group[-1]] + 0.03]
        hover = f"no difference: {', '.join(group)}<extra></extra>"
        look = {"mode": "lines", "line": line(GREY, 6), "name": " = ".join(group), "hovertemplate": hover}
        chart.add_scatter(x=ends, y=[0.35 + 0.35 * row] * 2, **look)
    chart.add_shape(type="line", x0=low, x1=low + test.critical_difference, y0=-0.85, y1=-0.85, line=line(RED, 2.5))
    _label(chart, low, -1.1, f"critical difference {test.critical_difference:.2f}", "left")
    return chart


def _line_with_band(
    chart: go.Figure, place: int, name: str, curve: Sequence[np.ndarray], shape: str = "linear"
) -> None:
    """``curve`` : x, centre, low and high, (n,) each."""
    x, centre, low, high = curve
    colour = SERIES[place % len(SERIES)]
    if np.isfinite(low).all():
        edge = {"width": 0, "shape": shape}
        common = {"mode": "lines", "hoverinfo": "skip", "showlegend": False, "legendgroup": name, "line": edge}
        chart.add_scatter(x=x, y=high, name=f"{name} high", **common)
        chart.add_scatter(x=x, y=low, name=f"{name} low", fill="tonexty", fillcolor=translucent(colour, 0.13), **common)
    chart.add_scatter(
        x=x,
        y=centre,
        name=name,
        mode="lines",
        legendgroup=name,
        line=line(colour, 2.4, _DASHES[place // len(SERIES) % len(_DASHES)], shape=shape),
        hovertemplate=f"{name}<br>trial %{{x}}: %{{y:.4f}}<extra></extra>",
    )


def _label(chart: go.Figure, x: float, y: float, text: str, side: str) -> None:
    chart.add_annotation(x=x, y=y, text=text, showarrow=False, xanchor=side, yanchor="middle")
