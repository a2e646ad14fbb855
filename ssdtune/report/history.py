"""Figures of a study's trials: best so far, retained against remembered, and where in (alpha, lambda) they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from ssdtune.report.chart import line, new_chart, translucent
from ssdtune.report.competition_figures import surface_figure
from ssdtune.report.competition_studies import points_of, surface_of
from ssdtune.report.style import BLUE, GREY, ORANGE, PURPLE, QUIET, RED, SEQUENTIAL
from ssdtune.report.view import StudyView
from ssdtune.study.records import ScoredTrial

_HOVER = (
    "trial %{customdata[0]}<br>alpha %{customdata[1]:.4g}, lambda %{customdata[2]:.4g}<br>"
    "s %{customdata[3]:.4f}<br>retained %{customdata[4]:.4f}<br>remembered %{customdata[5]:.4f}<extra></extra>"
)


def history_figures(view: StudyView) -> dict[str, go.Figure]:
    """All figures of a study's trials, by an id that is also fit for HTML and for the dashboard."""
    figures = {
        "ssdtune-trajectory": trajectory_figure(view),
        "ssdtune-plane": plane_figure(view),
        "ssdtune-settings": settings_figure(view),
    }
    if view.prior is not None and view.trials:
        figures["ssdtune-prior"] = surface_figure(surface_of(view.prior), points_of(view))
    return figures


def best_so_far(view: StudyView) -> np.ndarray:
    """Best feasible s after each finished trial, (trials,); starts from the untouched model, so it never is below w."""
    values = [trial.score.value if trial.score.feasible else -np.inf for trial in view.trials]
    return np.maximum.accumulate([view.untouched.value, *values])[1:]


def trajectory_figure(view: StudyView) -> go.Figure:
    """Score of every trial and the best feasible so far, against the trial number."""
    chart = new_chart(
        "Best feasible score so far",
        {"title": "trial", "range": [-0.5, max([9, *(trial.number for trial in view.trials)]) + 0.5]},
        {"title": f"score s ({view.facts.rule.kind})", "range": _score_range(view)},
    )
    kept, out = _split(view.trials)
    for name, part, marker in (
        ("feasible trial", kept, {"color": BLUE, "size": 8}),
        ("infeasible trial", out, {"color": GREY, "size": 8, "symbol": "x-thin-open"}),
    ):
        chart.add_scatter(
            name=name,
            mode="markers",
            x=[trial.number for trial in part],
            y=[trial.score.value for trial in part],
            marker=marker,
            customdata=_custom(part),
            hovertemplate=_HOVER,
        )
    chart.add_scatter(
        name="best feasible so far",
        mode="lines",
        x=[trial.number for trial in view.trials],
        y=best_so_far(view).tolist(),
        line=line(ORANGE, 2.5, shape="hv"),
        hovertemplate="best s after trial %{x}: %{y:.4f}<extra></extra>",
    )
    _level(chart, view.untouched.value, "untouched model")
    if view.oracle is not None:
        _level(chart, view.oracle.value, "oracle")
    return chart


def plane_figure(view: StudyView) -> go.Figure:
    """Remembered against retained: the untouched model sits at (1, 1), the goal is the upper left corner."""
    bound = view.facts.rule.min_retained
    lowest = min([bound, *(trial.score.retained for trial in view.trials)])
    bottom = max(0.0, lowest - 0.05)
    chart = new_chart(
        "Retained against remembered",
        {"title": "remembered (0: as if never seen)", "range": [-0.04, 1.04]},
        {"title": "retained (1: nothing lost)", "range": [bottom, 1.0 + 0.04 * (1.04 - bottom)]},
    )
    if bound > 0:
        chart.add_shape(
            type="rect",
            x0=-0.04,
            x1=1.04,
            y0=bound,
            y1=1.04,
            fillcolor=translucent(BLUE, 0.08),
            line_width=0,
            layer="below",
        )
        _note(chart, 0.99, bound, f"feasible: retained at least {bound:g}", xanchor="right", yanchor="bottom")
    front = pareto_front(view.trials)
    chart.add_scatter(
        name="Pareto front",
        mode="lines",
        x=[trial.score.remembered for trial in front],
        y=[trial.score.retained for trial in front],
        line=line(GREY, 1.5, shape="vh"),
        hoverinfo="skip",
    )
    _scored_markers(chart, view, lambda trial: (trial.score.remembered, trial.score.retained))
    chart.add_scatter(
        name="untouched model",
        mode="markers",
        x=[view.untouched.remembered],
        y=[view.untouched.retained],
        marker={"symbol": "square-open", "size": 11, "color": PURPLE, "line": {"width": 2}},
        hovertemplate="untouched model<extra></extra>",
    )
    if view.oracle is not None:
        chart.add_scatter(
            name="oracle",
            mode="markers",
            x=[view.oracle.remembered],
            y=[view.oracle.retained],
            marker={"symbol": "diamond-open", "size": 12, "color": PURPLE, "line": {"width": 2}},
            hovertemplate="oracle<extra></extra>",
        )
    return chart


def settings_figure(view: StudyView) -> go.Figure:
    """Where the trials lie in (alpha, lambda), both log, coloured by score."""
    search = view.facts.search
    chart = new_chart(
        "Settings tried",
        {"title": "alpha (selection threshold)", "type": "log", "range": np.log10(search.alpha).tolist()},
        {"title": "lambda (dampening constant)", "type": "log", "range": np.log10(search.lam).tolist()},
    )
    ends = [max(search.alpha[0], search.lam[0]), min(search.alpha[1], search.lam[1])]
    chart.add_scatter(
        name="lambda = alpha",
        mode="lines",
        x=ends,
        y=ends,
        line=line(QUIET, 1, "dot"),
        hoverinfo="skip",
    )
    _scored_markers(chart, view, lambda trial: (trial.setting.alpha, trial.setting.lam))
    return chart


def pareto_front(trials: list[ScoredTrial]) -> list[ScoredTrial]:
    """Trials that no other beats in both retained (more) and remembered (less), by rising remembered."""
    ordered = sorted(trials, key=lambda trial: (trial.score.remembered, -trial.score.retained))
    front: list[ScoredTrial] = []
    for trial in ordered:
        if not front or trial.score.retained > front[-1].score.retained:
            front.append(trial)
    return front


def _scored_markers(chart: go.Figure, view: StudyView, place: Any) -> None:
    """Feasible trials, infeasible ones (crosses) and the best (a star), coloured by score."""
    kept, out = _split(view.trials)
    low, high = _score_range(view)
    colours = {
        "colorscale": SEQUENTIAL,
        "cmin": low,
        "cmax": high,
        "colorbar": {"title": "s", "thickness": 12, "len": 0.8, "outlinewidth": 0},
        "line": {"color": QUIET, "width": 0.7},
    }
    for name, part, symbol in (("feasible trial", kept, "circle"), ("infeasible trial", out, "x")):
        chart.add_scatter(
            name=name,
            mode="markers",
            x=[place(trial)[0] for trial in part],
            y=[place(trial)[1] for trial in part],
            marker={"symbol": symbol, "size": 9, "color": [trial.score.value for trial in part], **colours},
            customdata=_custom(part),
            hovertemplate=_HOVER,
        )
    if view.best is not None and view.best.score.feasible:
        x, y = place(view.best)
        chart.add_scatter(
            name=f"best (trial {view.best.number})",
            mode="markers",
            x=[x],
            y=[y],
            marker={"symbol": "star-open", "size": 18, "color": RED, "line": {"width": 2}},
            customdata=_custom([view.best]),
            hovertemplate=_HOVER,
        )


def _split(trials: list[ScoredTrial]) -> tuple[list[ScoredTrial], list[ScoredTrial]]:
    kept = [trial for trial in trials if trial.score.feasible]
    return kept, [trial for trial in trials if not trial.score.feasible]


def _custom(trials: list[ScoredTrial]) -> list[list[float]]:
    return [
        [
            trial.number,
            trial.setting.alpha,
            trial.setting.lam,
            trial.score.value,
            trial.score.retained,
            trial.score.remembered,
        ]
        for trial in trials
    ]


def _score_range(view: StudyView) -> list[float]:
    """Axis range of s: all trials and the untouched model, with room, inside [0, 1]."""
    values = [view.untouched.value, *(trial.score.value for trial in view.trials)]
    values += [view.oracle.value] if view.oracle is not None else []
    room = 0.06 * (max(values) - min(values) or 1.0)
    return [max(min(values) - room, 0.0 - room), min(max(values) + room, 1.0 + room)]


def _level(chart: go.Figure, value: float, name: str) -> None:
    chart.add_hline(y=value, line=line(QUIET, 1, "dot"))
    _note(chart, 0, value, f"{name} {value:.3f}", xref="paper", xanchor="left", yanchor="bottom")


def _note(chart: go.Figure, x: float, y: float, text: str, **places: Any) -> None:
    chart.add_annotation(x=x, y=y, text=text, showarrow=False, font={"size": 11, "color": QUIET}, **places)
