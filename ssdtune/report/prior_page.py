"""The page of ``ssdtune prior evaluate``: how the mapper does on families it has not seen."""

from __future__ import annotations

import plotly.graph_objects as go

from ssdtune.prior.assess import COVERAGES, SETTINGS, Assessment
from ssdtune.report.page import Page, Plot, Section, Table, Text, Tile
from ssdtune.report.style import BLUE, MUTED, RED, SERIES, polish

_CALIBRATION = "Share of settings whose measured value lies inside the predicted interval, by its level."
_REGRET = (
    "Regret of s after one trial: the best of the task's recorded settings less the one that the prior chooses, no "
    "trial spent before it."
)


def prior_page(assessment: Assessment, title: str) -> Page:
    """Calibration, and the regret of the first trial by family."""
    numbers = assessment.summary()
    columns = ["family", "tasks", *SETTINGS]
    families = Table(columns, family_rows(assessment), numeric=range(1, len(columns)))
    return Page(
        kind="Learned prior",
        title=title,
        lead=f"{len(assessment.tasks)} tasks of {int(numbers['families'])} families, each predicted by networks that "
        "have not seen its family.",
        sections=[
            Section("Calibration", [Text(_CALIBRATION), Plot("prior-calibration", calibration_figure(assessment))]),
            Section("First trial", [Text(_REGRET), Plot("prior-regret", regret_figure(assessment)), families]),
        ],
        tiles=[
            Tile("held-out log-likelihood", f"{numbers['log_likelihood']:.2f}", "per setting, retained and remembered"),
            Tile("RMSE retained", f"{numbers['rmse_retained']:.3f}"),
            Tile("RMSE remembered", f"{numbers['rmse_remembered']:.3f}"),
        ],
    )


def calibration_figure(assessment: Assessment) -> go.Figure:
    """Observed against stated coverage of both outputs."""
    numbers = assessment.summary()
    levels = [100 * level for level in COVERAGES]
    figure = go.Figure(
        go.Scatter(x=[40, 100], y=[40, 100], mode="lines", line={"color": MUTED, "dash": "dot"}, name="calibrated")
    )
    for output, colour in (("retained", BLUE), ("remembered", RED)):
        observed = [100 * numbers[f"coverage{level:g}_{output}"] for level in levels]
        figure.add_scatter(x=levels, y=observed, mode="lines+markers", line={"color": colour}, name=output)
    figure.update_xaxes(title="stated %", range=[40, 100])
    figure.update_yaxes(title="inside %", range=[40, 100])
    return polish(figure, "Coverage of predicted intervals")


def regret_figure(assessment: Assessment) -> go.Figure:
    """One point a task, one column a family, one colour a goal."""
    figure = go.Figure()
    tasks = sorted(assessment.tasks, key=lambda task: (task.family, task.key))
    for name, colour in zip(SETTINGS, SERIES, strict=False):
        figure.add_scatter(
            x=[task.family for task in tasks],
            y=[task.regret[name] for task in tasks],
            text=[task.key for task in tasks],
            mode="markers",
            marker={"color": colour, "opacity": 0.6},
            name=name,
        )
    figure.update_xaxes(tickangle=-40, automargin=True)
    figure.update_yaxes(title="regret of s after the first trial", rangemode="tozero")
    return polish(figure, "Held-out regret by family", height=520)


def family_rows(assessment: Assessment) -> list[list[object]]:
    """(family, tasks, mean regret by goal)."""
    rows: list[list[object]] = []
    for family in sorted({task.family for task in assessment.tasks}):
        own = [task for task in assessment.tasks if task.family == family]
        regrets = [sum(task.regret[name] for task in own) / len(own) for name in SETTINGS]
        rows.append([family, len(own), *regrets])
    return rows
