"""A storage that goes away for a while: waited for, nothing done twice, and given up when asked to stop."""

import threading
import time

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from ssdtune.study import interrupts, together
from ssdtune.study.own import OwnView
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
    patience = Patience(on_change=lambda why, _: heard.append(why is not None))
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


@pytest.mark.parametrize("name", ["set_trial_user_attr", "set_trial_state_values"])
@pytest.mark.parametrize("after", [True, False])
def test_what_is_written_together_is_written_once_whenever_the_connection_broke(shaky, url, name, after):
    own = OwnView(optuna.create_study(storage=waited_for(open_storage(url, create=True), Patience())))
    trial, _ = own.ask({})
    failed = shaky(name, after=after)
    with own.together():
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("a", 1)
        own.study.tell(trial.number, 1.0)
    assert failed
    (found,) = own.look()
    assert (found.state, found.value, found.user_attrs) == (TrialState.COMPLETE, 1.0, {"a": 1})
    assert list(found.params) == ["x"]


def test_an_end_whose_commit_was_carried_out_unseen_is_one(url, monkeypatch):
    own = OwnView(optuna.create_study(storage=waited_for(open_storage(url, create=True), Patience())))
    trial, _ = own.ask({})
    commit, failures = together._Joined.really_commit, []

    def unseen(self):
        commit(self)
        if not failures:
            failures.append(1)
            raise lost()

    monkeypatch.setattr(together._Joined, "really_commit", unseen)
    with own.together():
        trial.set_user_attr("a", 1)
        own.study.tell(trial.number, 1.0)
    assert failures
    assert [(found.state, found.user_attrs) for found in own.look()] == [(TrialState.COMPLETE, {"a": 1})]


def test_an_end_that_the_server_carried_out_late_is_one(url, monkeypatch):
    study = optuna.create_study(storage=waited_for(open_storage(url, create=True), Patience()))
    trial, server = study.ask(), open_storage(url)
    end, tries = optuna.storages.RDBStorage.set_trial_state_values, []

    def late(self, *given, **named):
        tries.append(self)
        if len(tries) == 1:
            raise lost()
        if len(tries) == 2:
            end(server, *given, **named)
        return end(self, *given, **named)

    monkeypatch.setattr(optuna.storages.RDBStorage, "set_trial_state_values", late)
    study.tell(trial, 1.0)
    assert len(tries) == 2
    assert [(each.state, each.value) for each in study.trials] == [(TrialState.COMPLETE, 1.0)]


def test_an_optuna_whose_sessions_are_elsewhere_writes_one_by_one(url):
    storage = open_storage(url, create=True)
    sessions = storage.scoped_session
    waiting = waited_for(storage, Patience())
    study = optuna.create_study(storage=waiting)
    own = OwnView(study)
    trial, _ = own.ask({})
    storage.scoped_session = lambda: sessions()  # of a kind that is not known
    with own.together():
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("a", 1)
        own.study.tell(trial.number, 1.0)
    (found,) = own.look()
    assert (found.state, found.user_attrs, list(found.params)) == (TrialState.COMPLETE, {"a": 1}, ["x"])


def test_what_is_there_already_is_left_and_the_rest_is_written(url):
    storage = open_storage(url, create=True)
    waiting = waited_for(storage, Patience())
    study = optuna.create_study(storage=waiting)
    trial_id, wide = study.ask()._trial_id, FloatDistribution(0, 1)
    waiting.set_trial_param(trial_id, "x", 0.25, wide)
    writes = [("set_trial_user_attr", (trial_id, "a", 1)), ("set_trial_param", (trial_id, "x", 0.5, wide))]
    waiting.write_together([*writes, ("set_trial_user_attr", (trial_id, "b", 2))])
    assert study.trials[0].params == {"x": 0.25} and study.trials[0].user_attrs == {"a": 1, "b": 2}


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


def test_what_is_known_without_the_database_is_no_answer_of_it(tmp_path):
    patience = Patience()
    storage = waited_for(open_storage(f"sqlite:///{tmp_path}/studies.db", create=True), patience)
    patience.has_failed(ConnectionError())
    assert storage.get_heartbeat_interval() == 30
    assert patience.lost_since is not None
    storage.get_all_studies()
    assert patience.lost_since is None


@pytest.mark.parametrize("written", [False, True])
def test_a_trial_is_the_databases_where_its_commit_was_lost(tmp_path, monkeypatch, written):
    """``written`` : the server had made it before the connection was lost."""
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", create=True)
    study = optuna.create_study(study_name="lost", storage=storage)
    own = OwnView(optuna.load_study(study_name="lost", storage=waited_for(storage, Patience(5))))
    commit, lost = together._Joined.really_commit, []

    def once_lost(self):
        if not lost:
            lost.append(1)
            if written:
                commit(self)
            raise ConnectionError("server closed the connection")
        commit(self)

    monkeypatch.setattr(together._Joined, "really_commit", once_lost)
    trial, seen = own.ask({"origin": "here"})
    assert len(lost) == 1
    assert [(each.user_attrs, each.system_attrs) for each in study.get_trials()] == [({"origin": "here"}, {})]
    assert [each.number for each in seen] == [trial.number] == [0]
    trial.set_user_attr("more", 1)
    assert study.get_trials()[0].user_attrs == {"origin": "here", "more": 1}
