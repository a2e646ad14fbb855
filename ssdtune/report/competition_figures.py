"""Figures of a competition of samplers: regret, trials to target, ranks, the plane."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.interpolate import griddata

from ssdtune.report.chart import line, new_chart, translucent
from ssdtune.report.ranking import RankTest
from ssdtune.report.regret import Band, SolvedCurve
from ssdtune.report.style import GREY, INK, QUIET, RED, SEQUENTIAL, SERIES, polish

_GRID = 64  # points a side of the interpolated measured surface
_DASHES = ("solid", "dash", "dot")


@dataclass(frozen=True, eq=False)
class Points:
    """Trials in order: alpha, lam, score, feasible, each (n,)."""

    alpha: np.ndarray
    lam: np.ndarray
    score: np.ndarray
    feasible: np.ndarray

    @classmethod
    def join(cls, parts: Iterable[Points]) -> Points:
        """All points one after the other."""
        parts = list(parts)
        names = ("alpha", "lam", "score", "feasible")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class Surface:
    """Scores on a grid: alpha (a,), lam (b,), score (b, a); ``mode`` is the setting (alpha, lam) expected best.

    feasible : (b, a) probability that the constraint holds.
    """

    alpha: np.ndarray
    lam: np.ndarray
    score: np.ndarray
    mode: tuple[float, float] | None = None
    feasible: np.ndarray | None = None


def regret_figure(bands: Mapping[str, Band]) -> go.Figure:
    """Mean incumbent regret against the number of trials, with confidence bands."""
    chart = new_chart(
        "Regret of the best trial so far", {"title": "trials"}, {"title": "regret", "rangemode": "tozero"}
    )
    for place, (name, band) in enumerate(bands.items()):
        trials = np.arange(1, len(band.centre) + 1)
        _line_with_band(chart, place, name, trials, band.centre, band.low, band.high)
    return chart


def solved_figure(curves: Mapping[str, SolvedCurve]) -> go.Figure:
    """Share solved within n trials."""
    chart = new_chart(
        "Share that has reached the target",
        {"title": "trials"},
        {"title": "share", "range": [0, 1.02], "tickformat": ".0%"},
    )
    for place, (name, curve) in enumerate(curves.items()):
        _line_with_band(chart, place, name, curve.trials, curve.share, curve.low, curve.high, shape="hv")
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
    chart = new_chart(
        title,
        {"range": [low - 2.6 * width, high + 2.6 * width], "visible": False},
        {"range": [max(depth) + 0.5, -1.4], "visible": False},
        height=round(120 + 46 * (max(depth) + 1.4)),
    )
    chart.update_layout(showlegend=False, margin={"b": 24})
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
            line=line(_colour(order.index(name)), 1.8),
            name=name,
            hovertemplate=f"{name}: mean rank {rank:.3f}<extra></extra>",
        )
        text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
        _label(chart, end, depth[place], f" {text} ", "right" if left else "left")
    for row, group in enumerate(test.groups):
        ends = [test.mean_ranks[group[0]], test.mean_ranks[group[-1]]]
        y = 0.35 + 0.35 * row
        chart.add_scatter(
            x=[ends[0] - 0.03, ends[1] + 0.03],
            y=[y, y],
            mode="lines",
            line=line(GREY, 6),
            name=" = ".join(group),
            hovertemplate=f"no difference: {', '.join(group)}<extra></extra>",
        )
    chart.add_shape(type="line", x0=low, x1=low + test.critical_difference, y0=-0.85, y1=-0.85, line=line(RED, 2.5))
    _label(chart, low, -1.1, f"critical difference {test.critical_difference:.2f}", "left")
    return chart


def places_figure(places: Mapping[str, Points]) -> go.Figure:
    """Small multiples of the (alpha, lambda) plane: each sampler's trials in order, its best feasible starred."""
    columns = min(3, len(places))
    rows = math.ceil(len(places) / columns)
    chart = make_subplots(
        rows, columns, subplot_titles=list(places), shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.04
    )
    polish(chart, "Trials in the plane", height=140 + 280 * rows)
    most = max(len(points.alpha) for points in places.values())
    chart.update_layout(
        showlegend=False,
        coloraxis={"colorscale": SEQUENTIAL, "cmin": 1, "cmax": most, "colorbar": {"title": "trial", "thickness": 12}},
    )
    chart.update_xaxes(type="log", title_text="alpha")
    chart.update_yaxes(type="log")
    for place, (name, points) in enumerate(places.items()):
        row, column = place // columns + 1, place % columns + 1
        if column == 1:
            chart.update_yaxes(title_text="lambda", row=row, col=column)
        feasible = np.asarray(points.feasible, bool)
        chart.add_scatter(
            name=name,
            mode="markers",
            x=points.alpha,
            y=points.lam,
            marker={
                "color": np.arange(1, len(points.alpha) + 1),
                "coloraxis": "coloraxis",
                "size": 8,
                "symbol": np.where(feasible, "circle", "x"),
                "line": {"color": QUIET, "width": 0.7},
            },
            customdata=points.score,
            hovertemplate="trial %{marker.color}: alpha %{x:.4g}, lambda %{y:.4g}, s %{customdata:.4f}<extra></extra>",
            row=row,
            col=column,
        )
        if feasible.any():
            best = int(np.argmax(np.where(feasible, points.score, -np.inf)))
            _star(chart, points.alpha[best], points.lam[best], f"best of {name}", row, column)
    return chart


def surface_figure(prior: Surface, measured: Points) -> go.Figure:
    """The prior's score over the plane beside the measured one (linear between trials), on one colour scale."""
    chart = make_subplots(1, 2, subplot_titles=["prior", "measured"], shared_yaxes=True, horizontal_spacing=0.04)
    polish(chart, "Score over the plane", height=460)
    finite = np.concatenate([np.ravel(prior.score), measured.score])
    finite = finite[np.isfinite(finite)]
    chart.update_layout(
        showlegend=False,
        coloraxis={
            "colorscale": SEQUENTIAL,
            "cmin": float(finite.min()),
            "cmax": float(finite.max()),
            "colorbar": {"title": "s", "thickness": 12},
        },
    )
    chart.update_xaxes(type="log", title_text="alpha", range=np.log10([prior.alpha.min(), prior.alpha.max()]).tolist())
    chart.update_yaxes(type="log", range=np.log10([prior.lam.min(), prior.lam.max()]).tolist())
    chart.update_yaxes(title_text="lambda", row=1, col=1)
    alpha, lam, score = interpolate(measured)
    for column, (x, y, z) in enumerate(((prior.alpha, prior.lam, prior.score), (alpha, lam, score)), start=1):
        chart.add_heatmap(x=x, y=y, z=z, coloraxis="coloraxis", hoverongaps=False, row=1, col=column)
        chart.data[-1].hovertemplate = "alpha %{x:.4g}, lambda %{y:.4g}<br>s %{z:.4f}<extra></extra>"
    chart.add_scatter(
        x=measured.alpha,
        y=measured.lam,
        mode="markers",
        name="trials",
        marker={"size": 5, "color": "rgba(255, 255, 255, 0.7)", "line": {"color": INK, "width": 1}},
        hoverinfo="skip",
        row=1,
        col=2,
    )
    if prior.feasible is not None and prior.feasible.min() < 0.5 < prior.feasible.max():
        chart.add_contour(
            x=prior.alpha,
            y=prior.lam,
            z=prior.feasible,
            contours={"start": 0.5, "end": 0.5, "coloring": "lines"},
            colorscale=[[0, INK], [1, INK]],
            showscale=False,
            line={"width": 1.5, "dash": "dot"},
            name="feasible: 50 %",
            hoverinfo="skip",
            row=1,
            col=1,
        )
    if prior.mode is not None:
        _star(chart, *prior.mode, "mode of the prior", 1, 1)
    usable = np.asarray(measured.feasible, bool)
    if usable.any():
        best = int(np.argmax(np.where(usable, measured.score, -np.inf)))
        _star(chart, measured.alpha[best], measured.lam[best], "best measured", 1, 2)
    return chart


def interpolate(points: Points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(alpha, lam, score) on a grid, linear in log alpha and log lambda between the points, NaN outside them.

    Fewer than four distinct points, or points on one line, give a surface of NaN.
    """
    alpha, lam = (np.geomspace(axis.min(), axis.max(), _GRID) for axis in (points.alpha, points.lam))
    places = np.log(np.column_stack([points.alpha, points.lam]))
    wanted = tuple(np.meshgrid(np.log(alpha), np.log(lam)))
    if len(np.unique(places, axis=0)) < 4 or np.linalg.matrix_rank(places - places.mean(0), tol=1e-9) < 2:
        return alpha, lam, np.full((_GRID, _GRID), np.nan)
    return alpha, lam, griddata(places, points.score, wanted, method="linear")


def _line_with_band(
    chart: go.Figure,
    place: int,
    name: str,
    x: np.ndarray,
    centre: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    shape: str = "linear",
) -> None:
    colour = _colour(place)
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


def _star(chart: go.Figure, x: float, y: float, name: str, row: int, column: int) -> None:
    chart.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        name=name,
        marker={"symbol": "star", "size": 15, "color": RED, "line": {"color": "#ffffff", "width": 1}},
        hovertemplate=f"{name}: alpha %{{x:.4g}}, lambda %{{y:.4g}}<extra></extra>",
        row=row,
        col=column,
    )


def _label(chart: go.Figure, x: float, y: float, text: str, side: str) -> None:
    chart.add_annotation(x=x, y=y, text=text, showarrow=False, xanchor=side, yanchor="middle")


def _colour(place: int) -> str:
    return SERIES[place % len(SERIES)]
