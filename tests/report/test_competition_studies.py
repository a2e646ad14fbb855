"""Regret of real studies against a literal count."""

from dataclasses import replace

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.report.competition import competition_page
from ssdtune.report.competition_studies import competition_of, write_competition
from ssdtune.report.knobs import points_of
from ssdtune.report.page import render
from ssdtune.report.view import read_view
from ssdtune.study.record import read_trial


@pytest.fixture
def view(study):
    return read_view(study)


def test_regret_is_counted_from_the_best_feasible_trial_of_all(view):
    later = replace(view, trials=view.trials[20:])
    competition = competition_of({"first": [view], "second": [later]})
    best = max(item.score.value for item in view.trials if item.score.feasible)
    assert competition.budget == 20
    for name, trials in (("first", view.trials[:20]), ("second", view.trials[20:])):
        held, wanted = 0.2, []
        for item in trials:
            held = max(held, item.score.value) if item.score.feasible else held
            wanted.append(best - held)
        np.testing.assert_allclose(competition.regret[name][0, 0], wanted)


def test_points_are_the_trials_in_order(view, study):
    points = points_of(view)
    assert points.settings.tolist() == [[trial.params["alpha"], trial.params["lambda"]] for trial in study.trials]
    assert points.feasible.tolist() == [read_trial(trial)["feasible"] for trial in study.trials]
    assert points_of(replace(view, trials=[])).settings.shape == (0, 2)


def test_the_page_of_real_studies(view):
    later = replace(view, trials=view.trials[20:])
    competition = competition_of({"first": [view, later], "second": [later, view]})
    page = competition_page(competition, "ghosts", places={"first": points_of(view), "second": points_of(later)})
    assert "2 seeds, 20 trials each" in render(page)


def test_the_page_fits_a_phone_and_a_desk(view, tmp_path, screen):
    views = {name: [view, replace(view, trials=view.trials[20:] + view.trials[:20])] for name in ("a", "b", "c")}
    path = write_competition(views, competition_of(views), "ghosts", tmp_path / "page.html", ["apply it"])
    assert path.stat().st_size < 2e6
    assert screen(path) == []


def test_a_better_trial_of_another_study_is_the_best_known(view):
    best = max(item.score.value for item in view.trials if item.score.feasible)
    near, far = (competition_of({"a": [view]}, known).regret["a"][0, 0, -1] for known in (0.0, best + 0.1))
    assert (near, far) == (pytest.approx(0.0), pytest.approx(0.1))


def test_unfinished_or_foreign_competitions_are_refused(view):
    with pytest.raises(ConfigError, match="not every sampler has run"):
        competition_of({"a": [view], "b": [view, view]})
    with pytest.raises(ConfigError, match="not every sampler has run"):
        competition_of({"a": [view], "b": [replace(view, trials=[])]})
    other = replace(view, record=replace(view.record, rule=replace(view.record.rule, retain_weight=0.5)))
    with pytest.raises(ConfigError, match="different score rules"):
        competition_of({"a": [view], "b": [other]})
