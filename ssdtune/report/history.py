"""Figures of a study's trials: best so far, retained against remembered, and where their settings lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from ssdtune.report.chart import line, new_chart, translucent
from ssdtune.report.knobs import SYMBOLS, add_trials, score_range, scored_markers, settings_figure, split
from ssdtune.report.ssd_plane import mark_diagonal, ssd_figures
from ssdtune.report.style import BLUE, GREY, ORANGE, PURPLE, QUIET
from ssdtune.report.view import StudyView
from ssdtune.study.trials import ScoredTrial


def history_figures(view: StudyView) -> dict[str, go.Figure]:
    """All figures of a study's trials, by an id that is also fit for HTML and for the dashboard."""
    figures = {"trajectory": trajectory_figure(view), "plane": plane_figure(view)}
    if view.record.knobs:
        figures["settings"] = settings_figure(view.like_best)
        mark_diagonal(figures["settings"], view.record.knobs)
    return {f"ssdtune-{name}": chart for name, chart in figures.items()} | ssd_figures(view)


def best_so_far(view: StudyView) -> np.ndarray:
    """Best feasible s after each finished trial, (trials,); starts from the untouched model, so it never is below w."""
    counts = [trial.score.feasible and not trial.estimated for trial in view.trials]
    values = [trial.score.value if one else -np.inf for trial, one in zip(view.trials, counts, strict=True)]
    return np.maximum.accumulate([view.untouched.value, *values])[1:]


def trajectory_figure(view: StudyView) -> go.Figure:
    """Score of every trial and the best feasible so far, against the trial number."""
    numbers = [trial.number for trial in view.trials]
    chart = new_chart(
        "Best feasible score so far",
        {"title": "trial", "range": [-0.5, max([9, *numbers]) + 0.5]},
        {"title": f"score s ({view.record.rule.kind})", "range": score_range(view)},
    )
    colours = BLUE, GREY, GREY
    markers = [{"color": one, "size": 8, "symbol": kind} for one, kind in zip(colours, SYMBOLS, strict=True)]
    for (name, part), marker in zip(split(view.trials).items(), markers, strict=True):
        add_trials(chart, name, part, lambda trial: (trial.number, trial.score.value), marker)
    chart.add_scatter(
        name="best feasible so far",
        mode="lines",
        x=numbers,
        y=best_so_far(view).tolist(),
        line=line(ORANGE, 2.5, shape="hv"),
        hovertemplate="best s after trial %{x}: %{y:.4f}<extra></extra>",
    )
    for level, name in ((view.untouched, "untouched model"), (view.oracle, "oracle")):
        if level is not None:
            chart.add_hline(y=level.value, line=line(QUIET, 1, "dot"))
            side = {"xref": "paper", "xanchor": "right", "yanchor": "top" if level is view.untouched else "bottom"}
            _note(chart, 1, level.value, f"{name} {level.value:.3f}", **side)
    return chart


def plane_figure(view: StudyView) -> go.Figure:
    """Remembered against retained: the untouched model sits at (1, 1), the goal is the upper left corner."""
    bound = view.record.rule.min_retained
    lowest = min([bound, *(trial.score.retained for trial in view.trials)])
    bottom = max(0.0, lowest - 0.05)
    chart = new_chart(
        "Retained against remembered",
        {"title": "remembered (0: as if never seen)", "range": [-0.04, 1.04]},
        {"title": "retained (1: nothing lost)", "range": [bottom, 1.0 + 0.04 * (1.04 - bottom)]},
    )
    if bound > 0:
        look = {"fillcolor": translucent(BLUE, 0.08), "line_width": 0, "layer": "below"}
        chart.add_shape(type="rect", x0=-0.04, x1=1.04, y0=bound, y1=1.04, **look)
        _note(chart, 0.99, bound, f"feasible above {bound:g}", xanchor="right", yanchor="top")
    front = pareto_front([trial for trial in view.trials if not trial.estimated])
    chart.add_scatter(
        name="Pareto front",
        mode="lines",
        x=[trial.score.remembered for trial in front],
        y=[trial.score.retained for trial in front],
        line=line(GREY, 1.5, shape="vh"),
        hoverinfo="skip",
    )
    scored_markers(chart, view, lambda trial: (trial.score.remembered, trial.score.retained))
    for level, name, symbol in ((view.untouched, "untouched model", "square"), (view.oracle, "oracle", "diamond")):
        if level is not None:
            chart.add_scatter(
                name=name,
                mode="markers",
                x=[level.remembered],
                y=[level.retained],
                marker={"symbol": f"{symbol}-open", "size": 11, "color": PURPLE, "line": {"width": 2}},
                hovertemplate=f"{name}<extra></extra>",
            )
    return chart


def pareto_front(trials: list[ScoredTrial]) -> list[ScoredTrial]:
    """Trials that no other beats in both retained (more) and remembered (less), by rising remembered."""
    ordered = sorted(trials, key=lambda trial: (trial.score.remembered, -trial.score.retained))
    front: list[ScoredTrial] = []
    for trial in ordered:
        if not front or trial.score.retained > front[-1].score.retained:
            front.append(trial)
    return front


def _note(chart: go.Figure, x: float, y: float, text: str, **places: Any) -> None:
    chart.add_annotation(x=x, y=y, text=text, showarrow=False, font={"size": 11, "color": QUIET}, **places)
