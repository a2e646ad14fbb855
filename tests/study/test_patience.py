"""A storage that goes away for a while: waited for, nothing done twice, and given up when asked to stop."""

import threading
import time

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from ssdtune.study import interrupts
from ssdtune.study.patience import Patience, is_lost, waited_for
from ssdtune.study.storage import open_storage


def lost():
    return OperationalError("select 1", {}, Exception("server closed the connection unexpectedly"))


@pytest.fixture
def shaky(monkeypatch):
    """``shaky(method, after=True)``: that method of any RDBStorage fails once, with its work done or before it."""

    def make(name, *, after):
        method, failures = getattr(optuna.storages.RDBStorage, name), []

        def failing(self, *given, **named):
            result = method(self, *given, **named) if after or failures else None
            if not failures:
                failures.append(name)
                raise lost()
            return result

        monkeypatch.setattr(optuna.storages.RDBStorage, name, failing)
        return failures

    return make


@pytest.mark.parametrize("after", [True, False])
def test_a_trial_is_asked_for_and_ended_once_whenever_the_connection_broke(shaky, url, after):
    heard = []
    patience = Patience(on_change=lambda lost, *_: heard.append(lost))
    study = optuna.create_study(storage=waited_for(open_storage(url, create=True), patience))
    asked = shaky("_create_new_trial", after=after)
    trial = study.ask()
    ended = shaky("set_trial_state_values", after=after)
    study.tell(trial, 1.0)
    assert asked and ended
    (found,) = study.get_trials()
    assert (found.state, found.value) == (TrialState.COMPLETE, 1.0)
    assert heard == [True, False, True, False]
    assert patience.lost_since is None and patience.spent > 0


def test_it_gives_up_when_patience_or_a_signal_ends_the_wait(url, monkeypatch):
    storage = open_storage(url, create=True)

    def fail(self):
        raise lost()

    monkeypatch.setattr(optuna.storages.RDBStorage, "get_all_studies", fail)
    with pytest.raises(OperationalError):
        waited_for(storage, Patience(0.0)).get_all_studies()
    monkeypatch.setattr(interrupts, "_kept", KeyboardInterrupt())
    with pytest.raises(OperationalError):
        waited_for(storage, Patience(60.0)).get_all_studies()


def test_a_wrong_query_and_a_locked_file_are_no_lost_connection():
    import sqlite3

    assert is_lost(lost())
    assert not is_lost(OperationalError("", {}, sqlite3.OperationalError("database is locked")))
    assert not is_lost(ValueError())
    assert not is_lost(OperationalError("", {}, Exception('FATAL: password authentication failed for user "lab"')))


def test_a_database_that_restarts_is_waited_for(postgresql):
    patience = Patience(60.0)
    study = optuna.create_study(storage=waited_for(open_storage(postgresql.url, create=True), patience))
    first = study.ask()
    postgresql.stop()
    told = threading.Thread(target=lambda: study.tell(first, 1.0))
    told.start()
    time.sleep(1)
    postgresql.start()
    told.join()
    second = study.ask()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert second.number == 1
