"""A storage that reads its own trials from memory: it says what the database has, and asks it seldom."""

import copy
import gc
import itertools
import math
import pickle
import threading
import time

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState, create_trial

from ssdtune.samplers.table import interrupted
from ssdtune.study.heartbeat import Heartbeat
from ssdtune.study.records import FINISHED, count_trials
from ssdtune.study.run import run_study
from ssdtune.study.storage import HEARTBEAT, load_study, open_database, open_storage


@pytest.fixture
def study(storage):
    return optuna.create_study(storage=storage, study_name="demo", sampler=optuna.samplers.RandomSampler(seed=0))


@pytest.fixture
def elsewhere(url, study):
    """The study as another process sees it that has Optuna alone."""
    return lambda: optuna.load_study(study_name="demo", storage=optuna.storages.RDBStorage(url))


@pytest.fixture
def statements(storage):
    """What is sent to the database, first words alone."""
    sent = []

    def note(connection, cursor, statement, *rest):
        sent.append(statement.split()[0])

    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", note)
    yield sent
    sqlalchemy.event.remove(storage.engine, "before_cursor_execute", note)


def _timeless(trial):
    """A finished trial but for the moment of its end."""
    same = copy.copy(trial)
    same.datetime_complete = trial.datetime_start
    assert abs((trial.datetime_complete - trial.datetime_start).total_seconds()) < 60
    return same


def test_a_trial_under_way_is_read_as_the_database_has_it(storage, study, elsewhere):
    def objective(trial):
        def check():
            (there,) = [each for each in elsewhere().trials if each.number == trial.number]
            (listed,) = [each for each in study.get_trials() if each.number == trial.number]
            here = storage.get_trial(storage.get_trial_id_from_study_id_trial_number(1, trial.number))
            assert here == there == listed
            assert storage.get_trial_params(trial.number + 1) == there.params

        check()
        x = trial.suggest_float("x", 1e-3, 1, log=True) + trial.suggest_int("n", 1, 9, step=2)
        trial.suggest_categorical("kind", ["a", None, 3.5])
        check()
        trial.set_user_attr("measures", {"pair": (1, 2), 3: math.inf, "none": None})
        trial.set_user_attr("again", 1)
        trial.set_user_attr("again", 2)
        trial.set_constraint("room", -0.25)
        check()
        trial.report(0.5, 3)
        trial.report(-math.inf, 4)
        check()
        assert trial.constraints == {"room": -0.25}
        if trial.number == 1:
            raise optuna.TrialPruned
        return math.nan if trial.number == 2 else x

    study.optimize(objective, n_trials=4)
    assert [_timeless(trial) for trial in study.get_trials(deepcopy=False)] == [*map(_timeless, elsewhere().trials)]
    assert study.trials == elsewhere().trials == study.get_trials(deepcopy=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    assert study.best_trial == elsewhere().best_trial


def test_a_study_in_the_place_of_a_deleted_one_has_no_trials(storage, study):
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert len(study.get_trials(deepcopy=False)) == 2
    optuna.delete_study(study_name="demo", storage=storage)
    again = optuna.create_study(storage=storage, study_name="demo")
    assert again.get_trials(deepcopy=False) == []
    assert again.ask().number == 0


def test_a_study_can_be_pickled_while_a_trial_runs(study):
    trial = study.ask()
    again = pickle.loads(pickle.dumps(study))
    assert [each.number for each in again.get_trials()] == [trial.number]


def test_a_trial_that_was_ended_elsewhere_gives_no_more_signs_of_life(storage, study, elsewhere, statements):
    trial = study.ask()
    elsewhere().tell(trial.number, state=TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr("late", 1)
    statements.clear()
    storage._heartbeat.beat()
    assert statements == []


def test_what_is_read_may_be_changed(storage, study):
    study.ask().suggest_float("x", 0, 1)
    first = storage.get_trial(1)
    first.params["x"], first.user_attrs["mine"] = 7.0, True
    assert storage.get_trial(1).params["x"] <= 1
    assert storage.get_trial(1).user_attrs == {}


def test_trials_of_other_processes_are_seen_as_they_go_on(study, elsewhere):
    other = elsewhere()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    theirs = other.ask()
    mine = study.ask()
    assert (theirs.number, mine.number) == (2, 3)
    assert [trial.state for trial in study.trials[2:]] == [TrialState.RUNNING] * 2
    theirs.suggest_float("x", 0, 1)
    assert study.trials[2].params == theirs.params
    other.tell(theirs, 0.5)
    assert study.trials[2].value == 0.5
    assert study.ask().number == 4


def test_trials_that_wait_are_run_wherever_they_were_put(study, elsewhere):
    seen = []

    def objective(trial):
        seen.append(trial.suggest_float("x", 0, 1))
        if trial.number == 0:
            elsewhere().enqueue_trial({"x": 0.125})
        return 0.0

    study.enqueue_trial({"x": 0.25})
    for _ in range(3):
        assert len(study.trials) >= len(seen)
        study.optimize(objective, n_trials=1)
    assert seen[:2] == [0.25, 0.125]
    assert len({*seen}) == 3


def test_a_trial_that_another_process_has_ended_is_not_written_any_more(study, elsewhere):
    def objective(trial):
        elsewhere().tell(trial.number, state=TrialState.FAIL)
        trial.set_user_attr("late", True)

    with pytest.raises(ValueError, match="Cannot tell a FAIL trial"):
        study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials == elsewhere().trials


def test_a_run_goes_on_after_a_trial_that_was_taken_for_lost(task, analysis, new_study, storage, url):
    study = new_study(storage=storage, trials=3)

    class Suspended(type(analysis)):
        calls = 0

        def dampen(self, *setting):
            self.calls += 1
            if self.calls == 2:
                load_study("demo", open_storage(url)).tell(1, state=TrialState.FAIL)
            return super().dampen(*setting)

    run_study(study, task, Suspended(task))
    assert [interrupted(trial) for trial in study.trials] == [False, True, False, False]


@pytest.mark.parametrize("sampler", ["tpe", "spectrum"])
def test_a_trial_takes_few_statements(sampler, task, analysis, new_study, storage, statements):
    study = new_study(storage=storage, trials=16, sampler=sampler)
    counts = []
    run_study(study, task, analysis, on_trial=lambda *_: counts.append(len(statements)))
    taken = [after - before for before, after in itertools.pairwise(counts)]
    assert len(taken) == 15
    assert max(taken) <= 25


def test_proposals_are_those_of_any_other_storage(task, analysis, new_study, storage):
    here, memory = new_study(storage=storage, trials=14, sampler="tpe"), new_study(trials=14, sampler="tpe")
    for study in (here, memory):
        run_study(study, task, analysis)
    assert [(trial.params, trial.value) for trial in here.trials] == [(t.params, t.value) for t in memory.trials]


def _signs(storage):
    with storage.engine.begin() as connection:
        return dict(connection.exec_driver_sql("select trial_id, heartbeat from trial_heartbeats").all())


def test_every_trial_gives_a_sign_of_life_as_it_begins(task, analysis, new_study, storage):
    assert storage.database.get_heartbeat_interval() == HEARTBEAT
    study = new_study(storage=storage, trials=3)
    run_study(study, task, analysis)
    assert sorted(_signs(storage)) == [1, 2, 3]
    study.enqueue_trial({"alpha": 2.0, "lambda": 0.5})
    run_study(study, task, analysis, trials=4)
    assert sorted(_signs(storage)) == [1, 2, 3, 4]


def test_a_trial_of_another_machine_without_signs_of_life_is_failed(task, analysis, new_study, storage, url):
    study = new_study(storage=storage, trials=3)
    dead, alive = (load_study("demo", open_storage(url)).ask() for _ in range(2))
    for trial in (dead, alive):
        trial.set_user_attr("worker", "elsewhere-1")
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00' where trial_id = 1")
    run_study(study, task, analysis)
    states = [trial.state for trial in study.trials]
    assert states[:2] == [TrialState.FAIL, TrialState.RUNNING]
    assert count_trials(study).finished + 1 == 3


def test_signs_of_life_go_on_until_the_trial_ends():
    signs, others = [], set(threading.enumerate())

    def record(trial):
        signs.append(trial)
        raise optuna.exceptions.StorageInternalError  # the next may be stored

    heart = Heartbeat(record, 0.01)
    heart.start(7)
    assert signs[0] == 7
    (thread,) = set(threading.enumerate()) - others
    until = time.monotonic() + 10
    while len(signs) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(signs) >= 3
    heart.stop(7)
    time.sleep(0.03)
    number = len(signs)
    time.sleep(0.05)
    assert len(signs) == number
    del heart
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_without_an_interval_there_are_no_signs():
    signs = []
    Heartbeat(signs.append, None).start(1)
    assert signs == []


def test_a_given_trial_is_kept_as_it_is(study, elsewhere, url):
    study.add_trial(create_trial(value=0.5))
    assert study.trials == elsewhere().trials
    assert study.trials[0].state in FINISHED
    assert open_database(url).get_heartbeat_interval() == HEARTBEAT
