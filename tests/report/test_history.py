"""The figures show the study's own numbers."""

from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from ssdtune.errors import StorageError
from ssdtune.report.history import (
    best_so_far,
    history_figures,
    pareto_front,
    plane_figure,
    settings_figure,
    trajectory_figure,
)
from ssdtune.report.view import read_view
from ssdtune.study.record import read_trial


@pytest.fixture
def view(study):
    return read_view(study)


def trace(figure, name):
    (found,) = [data for data in figure.data if data.name.startswith(name)]
    return found


def test_the_view_reads_what_the_study_holds(view, study):
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert [item.score.value for item in view.trials] == [trial.value for trial in complete]
    assert view.best.number == study.best_trial.number
    assert view.untouched.value == pytest.approx(0.2)
    table = view.measure_table()
    assert table["forget_ssim"]["best"] == read_trial(study.best_trial)["forget_ssim"]
    for row in table.values():
        assert row["change"] == pytest.approx(row["best"] - row["original"])


def test_every_trial_is_once_in_every_figure(view, study):
    places = {
        "ssdtune-trajectory": lambda t: (t.number, t.value),
        "ssdtune-plane": lambda t: (read_trial(t)["remembered"], read_trial(t)["retained"]),
        "ssdtune-settings": lambda t: (t.params["alpha"], t.params["lambda"]),
    }
    figures = history_figures(view)
    assert list(figures) == list(places)
    for name, place in places.items():
        for label, feasible in (("feasible", True), ("infeasible", False)):
            shown = trace(figures[name], label)
            wanted = [place(t) for t in study.trials if read_trial(t)["feasible"] is feasible]
            assert wanted, "the study must hold trials of both kinds"
            np.testing.assert_allclose(np.column_stack([shown.x, shown.y]), wanted)


def test_best_so_far_skips_infeasible_trials(view, study):
    line = trace(trajectory_figure(view), "best feasible so far")
    np.testing.assert_array_equal(line.y, best_so_far(view))
    best = 0.2
    for trial, shown in zip(study.trials, line.y, strict=True):
        best = max(best, trial.value) if read_trial(trial)["feasible"] else best
        assert shown == pytest.approx(best)
    assert line.y[-1] == pytest.approx(study.best_value)


def test_colours_are_the_scores(view, study):
    for figure in (plane_figure(view), settings_figure(view)):
        shown = trace(figure, "feasible")
        wanted = [t.value for t in study.trials if read_trial(t)["feasible"]]
        np.testing.assert_allclose(shown.marker.color, wanted)


def test_the_best_is_starred_where_it_lies(view, study):
    star = trace(settings_figure(view), "best")
    assert star.name == f"best (trial {study.best_trial.number})"
    assert (star.x[0], star.y[0]) == (study.best_params["alpha"], study.best_params["lambda"])


def test_the_feasible_region_starts_at_the_bound(view):
    (region,) = plane_figure(view).layout.shapes
    assert region.y0 == view.record.rule.min_retained


def test_no_trial_beats_one_on_the_pareto_front(view):
    front = pareto_front(view.trials)
    for kept in front:
        for other in view.trials:
            better = other.score.retained > kept.score.retained and other.score.remembered < kept.score.remembered
            assert not better
    assert view.best.score.remembered >= front[0].score.remembered


def test_a_study_without_trials_has_figures(study):
    view = read_view(study)
    empty = replace(view, trials=[])
    assert empty.best is None
    assert trace(history_figures(empty)["ssdtune-trajectory"], "feasible").x == ()


def test_a_foreign_study_is_refused():
    with pytest.raises(StorageError, match="not a study made by ssdtune"):
        read_view(optuna.create_study(study_name="other"))
