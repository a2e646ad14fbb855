"""What a process knows of its own trial is what the database has, and another process's word counts more."""

from contextlib import nullcontext

import optuna
import pytest
from optuna.trial import TrialState
from small_task import ssd

from ssdtune.study.ask import Seeds
from ssdtune.study.large import storage_of, trial_id_of
from ssdtune.study.own import OwnView
from ssdtune.study.patience import Patience, waited_for
from ssdtune.study.record import ORIGIN, SEED_NUMBER, WORKER
from ssdtune.study.run import run_study


@pytest.fixture(params=[False, True], ids=["plain", "waited for"])
def pair(request, storage):
    """(the study's own view, the study); one that is waited for writes in one transaction"""
    study = optuna.create_study(study_name="own", storage=storage)
    kept = waited_for(storage, Patience(5)) if request.param else storage
    return OwnView(optuna.load_study(study_name="own", storage=kept)), study


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
def test_a_trial_is_what_the_database_has_at_every_step(pair, state, settled, together):
    own, study = pair
    own.ask({})  # of another moment
    trial, seen = own.ask({"origin": "here"}, settled=settled)
    assert [(each.number, each.user_attrs) for each in seen] == [(0, {}), (1, {"origin": "here"})]

    def agreed():
        known, kept = storage_of(own.study).get_trial(trial_id_of(trial)), study.trials[trial.number]
        if kept.datetime_complete is not None:
            assert abs((known.datetime_complete - kept.datetime_complete).total_seconds()) < 60
        known.datetime_complete = kept.datetime_complete
        assert known == kept
        return known.state

    def tell():
        value = 0.75 if state == TrialState.COMPLETE else None
        told = own.study.tell(trial.number, value, state=state)
        assert told.state == state and told.constraints == {"bound": -0.1}

    for step in (
        lambda: trial.suggest_float("x", 1, 9, log=True),
        lambda: trial.suggest_int("k", 1, 5),
        lambda: trial.set_user_attr("measures", {"q": 0.5, "list": [1, None]}),
        lambda: trial.set_constraint("bound", -0.1),
        lambda: trial.report(0.25, 3),
    ):
        with own.together() if together else nullcontext():
            before = study.trials[trial.number]
            step()
            assert not together or study.trials[trial.number] == before
        assert agreed() == TrialState.RUNNING
    with own.together() if together else nullcontext():
        tell()
    assert agreed() == state
    assert study.trials[trial.number].constraints == {"bound": -0.1}
    assert own.look() == own.trials() == study.get_trials()


@pytest.mark.parametrize("others", [0, 1, 2])
def test_trials_that_others_made_meanwhile_are_seen_also_where_all_was_settled(pair, others):
    own, study = pair
    own.trials()
    for _ in range(others):
        study.ask()
    trial, seen = own.ask({"origin": "here"}, settled=True)
    assert trial.number == others
    assert seen == own.look() == study.get_trials()


def test_a_trial_that_waits_is_taken_as_ever(pair):
    own, study = pair
    study.enqueue_trial({"x": 2.5})
    trial, _ = own.ask({"origin": "here"})
    assert trial.suggest_float("x", 1, 9) == 2.5
    assert trial.user_attrs == {}
    own.study.tell(trial.number, 1.0)
    assert study.trials[0].params == {"x": 2.5} and study.trials[0].value == 1.0


def test_what_was_read_is_known_until_something_is_written(pair):
    own, study = pair
    trial, _ = own.ask({})
    study.enqueue_trial({"x": 2.5})
    assert [each.state for each in own.trials()] == [TrialState.RUNNING]
    trial.set_user_attr("a", 1)
    assert [each.state for each in own.trials()] == [TrialState.RUNNING, TrialState.WAITING]
    assert own.ask({})[0].number == 1


def test_a_trial_that_another_process_has_ended_is_not_written(pair):
    own, study = pair
    trial, _ = own.ask({})
    study.tell(trial.number, state=TrialState.FAIL)

    def tell():
        with own.together():
            trial.set_user_attr("b", 1)
            own.study.tell(trial.number, 1.0)

    for write in (lambda: trial.set_user_attr("a", 1), tell):
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            write()
    assert study.trials[0].state == TrialState.FAIL and study.trials[0].user_attrs == {}


def test_nothing_is_written_of_what_failed_halfway(pair):
    own, study = pair
    trial, _ = own.ask({})
    with pytest.raises(ZeroDivisionError), own.together():
        trial.set_user_attr("a", 1)
        raise ZeroDivisionError
    assert study.trials[0].user_attrs == {}


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


def test_a_trial_that_may_still_take_another_number_settles_nothing():
    """Two trials began with one number and the first was interrupted: the second has looked before, and gives way."""
    study = optuna.create_study()
    first, second = study.ask(), study.ask()
    for trial in (first, second):
        trial.set_user_attr(ORIGIN, {WORKER: "w", SEED_NUMBER: 0})
    study.tell(first, state=TrialState.FAIL)
    assert not Seeds().of(study.trials).settled
    second.set_user_attr(ORIGIN, {WORKER: "w", SEED_NUMBER: 1})
    second.suggest_float("alpha", 1, 2)
    assert Seeds().of(study.trials).settled
