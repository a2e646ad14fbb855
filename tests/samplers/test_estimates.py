"""What samplers are shown from memory: to TPE stopped trials are complete ones with their estimates."""

import optuna
import pytest
from optuna.trial import TrialState

from ssdtune.samplers.estimates import Shown, completed
from ssdtune.study.run import run_study


@pytest.fixture
def study():
    study = optuna.create_study(direction="maximize")

    def objective(trial):
        x = trial.suggest_float("x", 0.1, 1, log=True)
        trial.set_constraint("bound", x - 0.5)
        if trial.number % 2:
            trial.report(x, 16)
            raise optuna.TrialPruned
        return x

    study.optimize(objective, n_trials=6)
    study.ask()
    return study


def show(study):
    return Shown(study, completed).show(study.get_trials())


def test_stopped_trials_are_complete_with_their_last_value(study):
    shown = show(study)
    assert [trial.number for trial in shown.trials] == list(range(7))
    assert [trial.state for trial in shown.trials[:6]] == [TrialState.COMPLETE] * 6
    assert shown.trials[6].state == TrialState.RUNNING
    for ours, theirs in zip(shown.trials, study.trials, strict=True):
        assert (ours.params, ours.distributions, ours.constraints) == (
            theirs.params,
            theirs.distributions,
            theirs.constraints,
        )
        assert ours.value == theirs.value
    assert study.trials[1].state == TrialState.PRUNED


def test_it_is_made_without_a_word(study, capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    show(study)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    optuna.logging.set_verbosity(before)
    assert "created" not in capfd.readouterr().err


def test_what_a_sampler_writes_is_not_kept_and_finished_trials_are_not_made_again(study):
    memory = Shown(study, completed)
    shown = memory.show(study.get_trials()[:4])
    earlier = shown.get_trials(deepcopy=False)
    memory.set_trial_system_attr(3, "note", "value")
    again = memory.show(study.get_trials())
    assert len(again.trials) == 7
    assert all(before is after for before, after in zip(earlier, again.get_trials(deepcopy=False), strict=False))
    assert all("note" not in trial.system_attrs for trial in again.trials)
    assert [trial.number for trial in again.get_trials(states=(TrialState.RUNNING,))] == [6]


def test_tpe_proposes_with_early_stopping_what_it_would_without(task, analysis, new_study, storage):
    new_study("first", storage=storage)  # so that the storage numbers trials otherwise than a copy in memory does
    settings = []
    for stop_early, kept in ((True, storage), (False, None)):
        study = new_study("same", trials=16, sampler="tpe", score={"min_retained": 0.9}, storage=kept)
        run_study(study, task, analysis, stop_early=stop_early)
        settings.append([trial.params for trial in study.trials])
        stopped = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
        assert bool(stopped) == stop_early
    assert settings[0] == settings[1]
