"""Where trials lie by their knobs: one against the score, two as a plane, more as parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ssdtune.report.chart import line, new_chart, star
from ssdtune.report.parallel import Row, choice_row, knob_row, number_row, parallel_figure
from ssdtune.report.style import GREY, QUIET, SEQUENTIAL, polish
from ssdtune.report.view import StudyView
from ssdtune.study.trials import ScoredTrial, in_words
from ssdtune.unlearning.method import Knob

TITLE = "Settings tried"
Place = Callable[[ScoredTrial], tuple[float, float]]
_EDGE = {"color": QUIET, "width": 0.7}
_HOVER = (
    "trial %{customdata[0]}<br>%{customdata[1]}<br>s %{customdata[2]:.4f}<br>retained %{customdata[3]:.4f}<br>"
    "remembered %{customdata[4]:.4f}<extra></extra>"
)
SYMBOLS = "circle", "x", "circle-open"
"""Of the kinds of ``split``."""
_BAR = {"thickness": 12, "len": 0.8, "outlinewidth": 0}


@dataclass(frozen=True, eq=False)
class Points:
    """Trials in order: settings (n, k), a column for each of the k knobs; score and feasible (n,)."""

    knobs: tuple[Knob, ...]
    settings: np.ndarray
    score: np.ndarray
    feasible: np.ndarray

    @classmethod
    def join(cls, parts: Iterable[Points]) -> Points:
        """All points one after the other, of the same knobs."""
        parts = list(parts)
        arrays = ([getattr(part, name) for part in parts] for name in ("settings", "score", "feasible"))
        return cls(parts[0].knobs, *map(np.concatenate, arrays))

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y of a chart: the first two knobs, or the only one and the score."""
        return self.settings[:, 0], self.settings[:, 1] if len(self.knobs) > 1 else self.score

    @property
    def best(self) -> int | None:
        """Place of the best feasible one."""
        return int(np.argmax(np.where(self.feasible, self.score, -np.inf))) if self.feasible.any() else None

    def words(self, place: int) -> str:
        """The setting and score at a place."""
        setting = dict(zip((knob.name for knob in self.knobs), self.settings[place], strict=True))
        return f"{in_words(setting)}, s {self.score[place]:.4f}"


def points_of(view: StudyView) -> Points:
    """The finished trials of a study in order."""
    knobs, trials = view.record.knobs, view.trials
    settings = np.array([[trial.setting[knob.name] for knob in knobs] for trial in trials], float)
    score = np.array([trial.score.value for trial in trials], float)
    feasible = np.array([trial.score.feasible for trial in trials], bool)
    return Points(knobs, settings.reshape(len(trials), len(knobs)), score, feasible)


def settings_figure(view: StudyView) -> go.Figure:
    """Where the trials lie, coloured by score; infeasible ones are marked, and a line joins each best so far."""
    points = points_of(view)
    if len(points.knobs) > 2:
        numbers = np.array([trial.number for trial in view.trials])
        words = [f"trial {number}: {points.words(place)}" for place, number in enumerate(numbers)]
        rows = [number_row("trial", numbers), *_rows(points)]
        return parallel_figure(TITLE, rows, points.score, _colours("s", *score_range(view)), words)
    first, *others = points.knobs
    up = knob_axis(others[0]) if others else {"title": "score s", "range": score_range(view)}
    chart = new_chart(TITLE, knob_axis(first), up)
    path = _bests(points)
    x, y = (places[path] for places in points.places)
    look = {"mode": "lines", "line": line(GREY, 1.2, "dash"), "hoverinfo": "skip"}
    chart.add_scatter(name="path of the search (each best so far)", x=x, y=y, **look)
    place = dict(zip((trial.number for trial in view.trials), zip(*points.places, strict=True), strict=True))
    scored_markers(chart, view, lambda trial: place[trial.number])
    return chart


def places_figure(places: Mapping[str, Points]) -> go.Figure:
    """Small multiples: each sampler's trials in order, its best feasible starred; one for all with many knobs."""
    title, most = "Trials by their settings", max(len(points.score) for points in places.values())
    orders = [np.arange(1, len(points.score) + 1) for points in places.values()]
    colours = _colours("trial", 1, most)
    if len(next(iter(places.values())).knobs) > 2:
        order, points = np.concatenate(orders), Points.join(places.values())
        who = np.repeat(range(len(places)), [len(each) for each in orders])
        axes = [choice_row("sampler", who, list(places)), number_row("trial", order), *_rows(points)]
        words = [f"trial {number}: {points.words(place)}" for place, number in enumerate(order)]
        return parallel_figure(title, axes, order, colours, words)
    columns = min(3, len(places))
    rows = math.ceil(len(places) / columns)
    shared = {"shared_xaxes": "all", "shared_yaxes": "all", "horizontal_spacing": 0.04}
    chart = make_subplots(rows, columns, subplot_titles=list(places), **shared)
    polish(chart, title, height=140 + 280 * rows)
    chart.update_layout(showlegend=False, coloraxis=colours)
    for number, (name, points) in enumerate(places.items()):
        panel = {"row": number // columns + 1, "col": number % columns + 1}
        _place(chart, name, points, orders[number], panel)
    return chart


def _place(chart: go.Figure, name: str, points: Points, order: np.ndarray, panel: dict[str, int]) -> None:
    """One sampler's panel of ``places_figure``."""
    x, y = points.places
    look = {"size": 8, "symbol": np.where(points.feasible, "circle", "x"), "line": _EDGE}
    marker = {"color": order, "coloraxis": "coloraxis", **look}
    words = [points.words(place) for place in range(len(order))]
    hover = {"text": words, "hovertemplate": "trial %{marker.color}: %{text}<extra></extra>"}
    chart.add_scatter(name=name, mode="markers", x=x, y=y, marker=marker, **hover, **panel)
    across = knob_axis(points.knobs[0])
    up = knob_axis(points.knobs[1]) if len(points.knobs) > 1 else {"title": "s"}
    chart.update_xaxes(**across, **panel)
    chart.update_yaxes(**({**up, "title": None} if panel["col"] > 1 else up), **panel)
    if points.best is not None:
        star(chart, x[points.best], y[points.best], f"best of {name}", points.words(points.best), **panel)


def knob_axis(knob: Knob) -> dict[str, Any]:
    """Plotly settings of a knob's axis."""
    ends = [knob.low, knob.high]
    title = f"{knob.name} ({knob.about})" if knob.about else knob.name
    return {"title": title, "type": knob.scale, "range": np.log10(ends).tolist() if knob.scale == "log" else ends}


def scored_markers(chart: go.Figure, view: StudyView, place: Place) -> None:
    """Trials by kind (``split``) and the best (a star), coloured by score."""
    colours = _colours("s", *score_range(view))
    # the bar is the layout's, which a narrow screen places anew; a legend knows the colours of the traces alone
    bar = {"x": [None], "y": [None], "showlegend": False, "hoverinfo": "skip", "name": "s"}
    chart.update_layout(coloraxis=colours)
    chart.add_scatter(mode="markers", marker={"color": [colours["cmin"]], "coloraxis": "coloraxis"}, **bar)
    scale = {name: colours[name] for name in ("colorscale", "cmin", "cmax")}
    for (name, part), symbol in zip(split(view.trials).items(), SYMBOLS, strict=True):
        values = [trial.score.value for trial in part]
        look = {"symbol": symbol, "size": 9, "color": values, "line": _EDGE, **scale}
        add_trials(chart, name, part, place, look)
    if view.best is not None and view.best.score.feasible:
        words = f"{view.best.setting_in_words()}<br>s {view.best.score.value:.4f}"
        star(chart, *place(view.best), f"best (trial {view.best.number})", words)


def split(trials: list[ScoredTrial]) -> dict[str, list[ScoredTrial]]:
    """Trials by what the legend calls them: scored on every slice, feasible or not, and estimates from a part."""
    full, stopped = ([trial for trial in trials if trial.estimated is kind] for kind in (False, True))
    kept, rest = ([trial for trial in full if trial.score.feasible is kind] for kind in (True, False))
    return {"feasible trial": kept, "infeasible trial": rest, "stopped early (estimate)": stopped}


def add_trials(chart: go.Figure, name: str, trials: list[ScoredTrial], place: Place, marker: Mapping[str, Any]) -> None:
    """Trials as markers that say everything on hovering."""
    x, y = ([place(trial)[axis] for trial in trials] for axis in (0, 1))
    scores = ([trial.score.value, trial.score.retained, trial.score.remembered] for trial in trials)
    said = [[trial.number, trial.setting_in_words(), *each] for trial, each in zip(trials, scores, strict=True)]
    look = {"mode": "markers", "marker": marker, "hovertemplate": _HOVER}
    chart.add_scatter(name=name, x=x, y=y, customdata=said, **look)


def score_range(view: StudyView) -> list[float]:
    """Axis range of s: all trials and the untouched model, with room, inside [0, 1]."""
    values = [view.untouched.value, *(trial.score.value for trial in view.trials)]
    values += [view.oracle.value] if view.oracle is not None else []
    room = 0.06 * (max(values) - min(values) or 1.0)
    return [max(min(values) - room, 0.0 - room), min(max(values) + room, 1.0 + room)]


def _colours(title: str, low: float, high: float) -> dict[str, Any]:
    return {"colorscale": SEQUENTIAL, "cmin": low, "cmax": high, "colorbar": {"title": title, **_BAR}}


def _bests(points: Points) -> list[int]:
    """Places of the trials that were the best feasible when they ended."""
    found: list[int] = []
    for place in np.flatnonzero(points.feasible):
        if not found or points.score[place] > points.score[found[-1]]:
            found.append(int(place))
    return found


def _rows(points: Points) -> list[Row]:
    """The knobs, whether it is feasible, and the score."""
    knobs = [knob_row(knob, column) for knob, column in zip(points.knobs, points.settings.T, strict=True)]
    feasible = choice_row("feasible", points.feasible.astype(int), ["no", "yes"])
    return [*knobs, feasible, number_row("s", points.score, ".3f")]
