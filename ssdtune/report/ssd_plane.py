"""What only SSD's studies show: (rho, kappa) of a trial, and the prior's surface over (alpha, lambda)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.interpolate import griddata

from ssdtune.prior.density import HyperparameterPrior
from ssdtune.report.chart import line, star
from ssdtune.report.knobs import Points, knob_axis, points_of
from ssdtune.report.page import Plot, Section, Text, Tile
from ssdtune.report.style import INK, QUIET, SEQUENTIAL, polish
from ssdtune.report.view import StudyView
from ssdtune.study.prior import StudyPrior
from ssdtune.study.record import read_trial
from ssdtune.study.trials import ScoredTrial, in_words
from ssdtune.unlearning.method import Knob

_KNOBS = ["alpha", "lambda"]
_GRID = 64  # points a side of the interpolated measured surface
_SEEN = (
    "What the prior expected before any trial, where beyond the dotted line the constraint likely fails, and what the "
    "trials measured."
)


def ssd_figures(view: StudyView) -> dict[str, go.Figure]:
    """Figures beside those that every study has, by id."""
    prior = view.prior.prior if view.prior is not None else None
    if not isinstance(prior, HyperparameterPrior) or not view.trials:
        return {}
    return {"ssdtune-prior": prior_figure(prior, points_of(view))}


def ssd_captions(view: StudyView) -> dict[str, str]:
    """Captions of these figures, and more to say under others."""
    if not _searched(view.record.knobs):
        return {}
    above = " Above the dotted line lambda exceeds alpha, where a smaller alpha changes nothing."
    return {"ssdtune-prior": _SEEN, "ssdtune-settings": above}


def mark_diagonal(chart: go.Figure, knobs: Sequence[Knob]) -> None:
    """The line lambda = alpha in a chart of the plane; nothing where other knobs were searched."""
    if not _searched(knobs):
        return
    ends = [max(knob.low for knob in knobs), min(knob.high for knob in knobs)]
    style = {"line": line(QUIET, 1, "dot"), "hoverinfo": "skip"}
    chart.add_scatter(name="lambda = alpha", mode="lines", x=ends, y=ends, **style)


def ssd_columns(trials: Sequence[ScoredTrial]) -> dict[str, list[object]]:
    """Columns of the table of trials: the selected fraction and the depth, where the trials record them."""
    notes, labels = [ssd_notes(item) for item in trials], {"selected": "rho", "kappa": "kappa"}
    return {label: [one.get(name) for one in notes] for label, name in labels.items()} if any(notes) else {}


def ssd_notes(item: ScoredTrial) -> dict[str, float]:
    """rho and kappa of a trial that records them."""
    values = read_trial(item.trial)
    return {name: values[name] for name in ("rho", "kappa")} if {"rho", "kappa"} <= values.keys() else {}


def ssd_tiles(item: ScoredTrial) -> list[Tile]:
    """The selected fraction, large."""
    notes = ssd_notes(item)
    return [Tile("selected", f"{notes['rho']:.2%}", "of all parameters")] if notes else []


def prior_section(fixed: StudyPrior, measured: Points) -> Section | None:
    """The prior that samplers shared, beside what all of their trials measured; None where it is not over a plane."""
    if not isinstance(fixed.prior, HyperparameterPrior):
        return None
    plot = Plot("ssdtune-surface", prior_figure(fixed.prior, measured), _SEEN)
    return Section("The prior against what was measured", [Text(f"The prior: {fixed.in_words()}."), plot])


def prior_figure(prior: HyperparameterPrior, measured: Points) -> go.Figure:
    """The prior's score over the plane beside the measured one (linear between trials), on one colour scale."""
    chart = make_subplots(1, 2, subplot_titles=["prior", "measured"], shared_yaxes=True, horizontal_spacing=0.04)
    polish(chart, "Score over the plane", height=460)
    surface = prior.surface()
    finite = np.concatenate([surface.score.ravel(), measured.score[np.isfinite(measured.score)]])
    colours = {"colorscale": SEQUENTIAL, "cmin": float(finite.min()), "cmax": float(finite.max())}
    chart.update_layout(showlegend=False, coloraxis={**colours, "colorbar": {"title": "s", "thickness": 12}})
    across, up = map(knob_axis, measured.knobs)
    chart.update_xaxes(**{**across, "range": np.log10(surface.alpha[[0, -1]]).tolist()})
    chart.update_yaxes(**{**up, "range": np.log10(surface.lam[[0, -1]]).tolist(), "title": None})
    chart.update_yaxes(title=up["title"], row=1, col=1)
    shown = ((surface.alpha, surface.lam, surface.score.T), interpolate(measured))
    for column, (x, y, z) in enumerate(shown, start=1):
        chart.add_heatmap(x=x, y=y, z=z, coloraxis="coloraxis", hoverongaps=False, row=1, col=column)
        chart.data[-1].hovertemplate = "alpha %{x:.4g}, lambda %{y:.4g}<br>s %{z:.4f}<extra></extra>"
    marker = {"size": 5, "color": "rgba(255, 255, 255, 0.7)", "line": {"color": INK, "width": 1}}
    x, y = measured.places
    chart.add_scatter(x=x, y=y, mode="markers", name="trials", marker=marker, hoverinfo="skip", row=1, col=2)
    if surface.feasible.min() < 0.5 < surface.feasible.max():
        level = {"start": 0.5, "end": 0.5, "coloring": "lines"}
        drawn = {"line": {"width": 1.5, "dash": "dot"}, "showscale": False, "hoverinfo": "skip"}
        look = {**drawn, "contours": level, "colorscale": [[0, INK], [1, INK]], "name": "feasible: 50 %"}
        chart.add_contour(x=surface.alpha, y=surface.lam, z=surface.feasible.T, row=1, col=1, **look)
    alpha, lam = prior.mode.values()
    star(chart, alpha, lam, "mode of the prior", in_words(prior.mode), row=1, col=1)
    if (best := measured.best) is not None:
        star(chart, x[best], y[best], "best measured", measured.words(best), row=1, col=2)
    return chart


def interpolate(points: Points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(alpha, lam, score) on a grid, linear in log alpha and log lambda between the points, NaN outside them.

    Fewer than four distinct points, or points on one line, give a surface of NaN.
    """
    alpha, lam = (np.geomspace(axis.min(), axis.max(), _GRID) for axis in points.settings.T)
    places = np.log(points.settings)
    if len(np.unique(places, axis=0)) < 4 or np.linalg.matrix_rank(places - places.mean(0), tol=1e-9) < 2:
        return alpha, lam, np.full((_GRID, _GRID), np.nan)
    wanted = tuple(np.meshgrid(np.log(alpha), np.log(lam)))
    return alpha, lam, griddata(places, points.score, wanted, method="linear")


def _searched(knobs: Sequence[Knob]) -> bool:
    return [knob.name for knob in knobs] == _KNOBS
