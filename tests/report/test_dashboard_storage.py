"""The storage that the dashboard reads from agrees with Optuna about which trial is best."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from ssdtune.report.dashboard_storage import DashboardStorage


def make(tmp_path, direction, rows):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    study = optuna.create_study(study_name="s", storage=url, direction=direction)
    for value, constraints in rows:
        study.add_trial(
            create_trial(
                value=value, params={"x": 1.0}, distributions={"x": FloatDistribution(0, 2)}, constraints=constraints
            )
        )
    return study, DashboardStorage(url)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_best_trial_is_the_studys(tmp_path, direction):
    rows = [(0.9, {"min_retained": 0.2}), (0.4, {"min_retained": -0.1}), (0.5, {"min_retained": 0.0})]
    rows += [(0.1, {"min_retained": 0.3})]
    study, storage = make(tmp_path, direction, rows)
    (row,) = storage.get_all_studies()
    assert storage.get_best_trial(row._study_id).number == study.best_trial.number


def test_without_a_feasible_trial_it_is_the_best_of_all(tmp_path):
    _, storage = make(tmp_path, "maximize", [(0.2, {"min_retained": 0.1}), (0.3, {"min_retained": 0.2})])
    assert storage.get_best_trial(1).number == 1


def test_trials_say_their_constraints_under_the_old_key_and_the_storage_is_as_it_was(tmp_path):
    study, storage = make(tmp_path, "maximize", [(0.2, {"min_retained": 0.1}), (0.3, None)])
    constrained, free = storage.get_all_trials(1)
    assert constrained.system_attrs["constraints"] == [0.1]
    assert "constraints" not in free.system_attrs
    assert "constraints" not in study.trials[0].system_attrs
    assert study.trials[0].constraints == {"min_retained": 0.1}
