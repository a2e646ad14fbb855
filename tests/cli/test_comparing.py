"""What a comparison says of its progress."""

from types import SimpleNamespace

import optuna
import pytest

from ssdtune.cli import comparing
from ssdtune.cli.comparing import Bar
from ssdtune.progress import silent
from ssdtune.study.compare import Budget, Rival
from ssdtune.unlearning.methods import choose_method


@pytest.fixture
def groups(monkeypatch):
    """Two methods with a finished trial each, of 0.01 s and one slice pass, and of 100 s and 50 passes."""
    costs = {"cheap": (0.01, 1.0), "dear": (100.0, 50.0)}
    found, chosen = {}, choose_method({"name": "ssd"})
    for label in costs:
        study = optuna.create_study(study_name=label)
        study.add_trial(optuna.trial.create_trial(value=0.5))
        found[label] = {Rival(label, 0, "tpe", chosen): study}

    def cost_of(study):
        seconds, passes = costs[study.study_name]
        return SimpleNamespace(trials=1, passes=passes, total=seconds)

    monkeypatch.setattr(comparing, "cost_of", cost_of)
    monkeypatch.setattr(comparing, "spent", lambda study: cost_of(study).passes)
    monkeypatch.setattr(comparing, "scored_trials", lambda study: [])
    return found


@pytest.mark.parametrize(
    ("budget", "ended", "left"), [(Budget(trials=10), 9, "0:15:00 left"), (Budget(cost=500), 499, "0:15:00 left")]
)
def test_time_left_goes_by_what_each_method_takes(groups, capsys, monkeypatch, budget, ended, left):
    now = [0.0]
    monkeypatch.setattr(comparing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(comparing, "read_trial", lambda trial: {"cost": 1.0})
    bar = Bar(groups, budget, "", silent)
    (study,) = groups["cheap"].values()
    for _ in range(ended):
        now[0] += 0.01
        bar.trial(study, study.trials[0])
    bar.study(study)
    assert capsys.readouterr().err.strip().endswith(left)


def test_no_time_is_told_of_first_trials(groups, capsys):
    bar = Bar(groups, Budget(trials=1), "", silent)
    (study,) = groups["cheap"].values()
    bar.study(study)
    assert "left" not in capsys.readouterr().err
