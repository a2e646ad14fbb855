"""Reports know no method: knobs are named as they are, one against the score, two as a plane, more in parallel."""

import json
import re

import numpy as np
import pytest
from screen import WIDTHS, frames_of, seen_in

from ssdtune.report.competition_studies import competition_of, write_competition
from ssdtune.report.dashboard import note_text
from ssdtune.report.history import history_figures
from ssdtune.report.html import study_page, trials_table
from ssdtune.report.knobs import settings_figure
from ssdtune.report.page import write_page
from ssdtune.report.statement import fact_rows, finding
from ssdtune.report.summary import summary_of
from ssdtune.report.view import read_view

NAMES = ["memory", "gain", "steps"]


@pytest.fixture(params=[1, 2, 3])
def view(dialled, request):
    return read_view(dialled[request.param])


def columns(view):
    """Settings of the trials, one column a knob, and which of them are feasible."""
    settings = np.array([list(item.trial.params.values()) for item in view.trials])
    return settings, np.array([item.score.feasible for item in view.trials])


def test_everything_that_is_said_names_the_knobs(view):
    names = NAMES[: len(view.record.knobs)]
    best = view.best
    assert re.findall(r"(\w+) [\d.]+", best.setting_in_words()) == names
    assert f"With {best.setting_in_words()} (trial {best.number}) the model" in finding(view)
    facts = dict(fact_rows(view))
    assert facts["searched"].startswith("memory 0.01 to 1 (log scale)")
    assert facts["method"].startswith(f"dials (seed 0, count {len(names)}")
    assert "Fisher information" not in facts, "the method has no analysis"
    table = trials_table(view)
    assert table.columns == ["trial", *names, "s", "retained", "remembered", "feasible", "remark"]
    assert np.array([row[1 : 1 + len(names)] for row in table.rows]).tolist() == columns(view)[0].tolist()
    summary = summary_of(view)
    assert summary["best"]["setting"] == best.trial.params
    assert "kappa" not in json.dumps(summary) and "lambda" not in note_text(view)


def test_one_knob_is_drawn_against_the_score_and_two_as_a_plane(dialled):
    for count in (1, 2):
        view = read_view(dialled[count])
        figure = settings_figure(view)
        settings, feasible = columns(view)
        up = settings[:, 1] if count == 2 else [item.score.value for item in view.trials]
        for name, kept in (("feasible trial", feasible), ("infeasible trial", ~feasible)):
            (shown,) = [trace for trace in figure.data if trace.name == name]
            np.testing.assert_allclose(np.column_stack([shown.x, shown.y]), np.column_stack([settings[:, 0], up])[kept])
        assert figure.layout.xaxis.type == "log" and figure.layout.xaxis.range == (-2, 0)
        assert figure.layout.xaxis.title.text == "memory (what is left of it)"
    assert feasible.any() and not feasible.all()
    assert (figure.layout.yaxis.type, figure.layout.yaxis.range) == ("linear", (0.8, 1.0))


def test_the_path_joins_each_best_so_far_and_ends_at_the_best(dialled):
    view = read_view(dialled[2])
    (path,) = [trace for trace in settings_figure(view).data if trace.name.startswith("path of the search")]
    scores = {item.setting["memory"]: item.score.value for item in view.trials if item.score.feasible}
    assert list(path.x) == list(dict.fromkeys(path.x)) and len(path.x) > 1
    assert np.all(np.diff([scores[x] for x in path.x]) > 0)
    assert (path.x[-1], path.y[-1]) == tuple(view.best.setting.values())


def test_three_knobs_are_parallel_coordinates(dialled):
    view = read_view(dialled[3])
    figure = settings_figure(view)
    settings, feasible = columns(view)
    rows = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert list(rows) == list(figure.layout.yaxis.ticktext) == ["trial", *NAMES, "feasible", "s"]
    np.testing.assert_allclose(10 ** (2 * np.array(rows["memory"].x) - 2), settings[:, 0])  # 0.01 to 1, log
    labels = [note for note in figure.layout.annotations if note.y == rows["memory"].y[0]]
    assert {note.text: note.x for note in labels} == {"0.01": 0.0, "0.1": 0.5, "1": 1.0}
    np.testing.assert_array_equal(rows["feasible"].x, feasible)
    np.testing.assert_allclose(rows["s"].marker.color, [item.score.value for item in view.trials])
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert sum(np.isnan(trace.x).sum() for trace in lines) == len(view.trials), "a line a trial"


def test_a_browser_draws_the_pages_and_has_nothing_to_complain_of(dialled, browser, tmp_path):
    views = [read_view(dialled[count]) for count in (1, 2, 3)]
    pages = [write_page(study_page(view), tmp_path / f"{len(view.record.knobs)}.html") for view in views]
    sides = {name: [views[2]] for name in "ab"}
    pages.append(write_competition(sides, competition_of(sides), "dials", tmp_path / "competition.html"))
    document, console = browser(frames_of(*pages).as_uri())
    assert console == []
    *each, competition = seen_in(document)[:: len(WIDTHS)]
    for view, page in zip(views, each, strict=True):
        plots = {plot["name"]: plot for plot in page["plots"]}
        assert plots.keys() >= set(history_figures(view)) and all(plot["drawn"] for plot in plots.values())
        words = " ".join(text["words"] for text in plots["ssdtune-settings"]["texts"])
        for name in NAMES[: len(view.record.knobs)]:
            assert re.search(rf"\b{name}\b", words), f"{name} is written at its axis"
    (places,) = [plot for plot in competition["plots"] if plot["name"] == "ssdtune-places"]
    assert places["drawn"] and any("memory" in text["words"] for text in places["texts"])
