"""What a process knows of its own trial is what the database has, and another process's word counts more."""

import optuna
import pytest
from optuna.trial import TrialState
from small_task import ssd

from ssdtune.study.large import storage_of, trial_id_of
from ssdtune.study.own import own_view
from ssdtune.study.run import run_study


@pytest.fixture
def pair(storage):
    """(the study's own view, the study)"""
    study = optuna.create_study(study_name="own", storage=storage)
    return own_view(study), study


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
def test_a_trial_is_what_the_database_has_at_every_step(pair, state):
    own, study = pair
    own.ask()  # of another moment: the one asked for last is known
    trial = own.ask()

    def agreed():
        known, kept = storage_of(own).get_trial(trial_id_of(trial)), study.trials[trial.number]
        if kept.datetime_complete is not None:
            assert abs((known.datetime_complete - kept.datetime_complete).total_seconds()) < 60
        known.datetime_complete = kept.datetime_complete
        assert known == kept
        return known.state

    for step in (
        lambda: trial.suggest_float("x", 1, 9, log=True),
        lambda: trial.suggest_int("k", 1, 5),
        lambda: trial.set_user_attr("measures", {"q": 0.5, "list": [1, None]}),
        lambda: trial.set_constraint("bound", -0.1),
        lambda: trial.report(0.25, 3),
    ):
        step()
        assert agreed() == TrialState.RUNNING
    told = own.tell(trial.number, 0.75 if state == TrialState.COMPLETE else None, state=state)
    assert agreed() == told.state == state
    assert told.constraints == study.trials[trial.number].constraints == {"bound": -0.1}
    assert own.get_trials() == study.get_trials()


def test_a_trial_that_waits_is_taken_as_ever(pair):
    own, study = pair
    study.enqueue_trial({"x": 2.5})
    trial = own.ask()
    assert trial.suggest_float("x", 1, 9) == 2.5
    own.tell(trial.number, 1.0)
    assert study.trials[0].params == {"x": 2.5} and study.trials[0].value == 1.0


def test_a_trial_that_another_process_has_ended_is_not_written(pair):
    own, study = pair
    trial = own.ask()
    study.tell(trial.number, state=TrialState.FAIL)
    for write in (lambda: trial.set_user_attr("a", 1), lambda: own.tell(trial.number, 1.0, skip_if_finished=True)):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            write()
    assert study.trials[0].state == TrialState.FAIL


def test_a_trial_that_was_taken_for_lost_is_left_and_ctrl_c_then_is_only_that(task, analysis, new_study):
    study = new_study(trials=3)
    method, ended = ssd(task, analysis), []

    class Suspended:
        """Every trial is taken for lost meanwhile; the second is interrupted too."""

        def __getattr__(self, name):
            return getattr(method, name)

        def __call__(self, setting, seed):
            running = [trial.number for trial in study.trials if trial.state == TrialState.RUNNING]
            study.tell(running[0], state=TrialState.FAIL)
            ended.append(running[0])
            if len(ended) == 2:
                raise KeyboardInterrupt
            return method(setting, seed)

    seen = []
    with pytest.raises(KeyboardInterrupt):
        run_study(study, task, Suspended(), on_trial=lambda study, trial: seen.append(trial))
    assert ended == [0, 2]
    assert [trial.number for trial in seen] == [1]  # in the place of 0, whose outcome is known by now
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL]
