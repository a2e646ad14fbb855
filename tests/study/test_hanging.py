"""A server that answers nothing and leaves its connections open: given up in time, and nothing lost."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from benchmarks.service.postgresql import hung
from ssdtune.errors import StorageError
from ssdtune.study import hanging, interrupts, storage
from ssdtune.study.patience import Patience, is_lost, waited_for
from ssdtune.study.storage import open_storage, storage_errors


@pytest.fixture
def server(request, tmp_path, monkeypatch):
    """``server(kind)``: (URL, process) of one with Optuna's tables, of which answers are then waited for a moment."""

    def find(kind):
        url, process = running(kind)
        open_storage(url, create=True)  # to make tables may take longer
        for place, name, seconds in ((hanging, "ANSWER", 2.0), (hanging, "PROXY", 2.0), (storage, "ANSWER", 2)):
            monkeypatch.setattr(place, name, seconds)
        monkeypatch.setattr(storage, "CONNECT_TIMEOUT", 2)
        return url, process

    def running(kind):
        if kind == "postgresql":
            running = request.getfixturevalue("postgresql")
            return running.url, running.process.pid
        if kind == "mysql":
            url = request.getfixturevalue("mysql")
            return url, int(Path(re.search("unix_socket=(.*)/socket", url)[1], "pid").read_text())
        proxy = request.getfixturevalue("proxy")
        return proxy.url, proxy.process.pid

    return find


@pytest.mark.filterwarnings("ignore:Heartbeat")
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "grpc"])
def test_it_is_waited_for_and_what_was_in_hand_is_written(server, kind):
    url, process = server(kind)
    heard = []
    patience = Patience(60.0, on_change=lambda why, _: heard.append(why is not None))
    study = optuna.create_study(storage=waited_for(open_storage(url), patience))
    trial = study.ask()
    told = threading.Thread(target=lambda: study.tell(trial, 1.0), daemon=True)
    with hung(process):
        told.start()
        until = time.monotonic() + 60
        while not heard and time.monotonic() < until:
            time.sleep(0.05)
        assert heard == [True]
    told.join(60)
    assert [each.state for each in study.trials] == [TrialState.COMPLETE]
    assert heard == [True, False]


@pytest.mark.filterwarnings("ignore:Heartbeat")
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "grpc"])
def test_a_signal_is_not_kept_for_it_and_nothing_more_is_asked(server, kind, monkeypatch):
    url, process = server(kind)
    for name in ("ANSWER", "ANSWER_AT_END", "PROXY"):
        monkeypatch.setattr(hanging, name, 60.0)  # so that the signal alone ends the call
    monkeypatch.setattr(interrupts, "_ANSWER", 0.1)
    study = optuna.create_study(storage=waited_for(open_storage(url), Patience(60.0)))
    trial = study.ask()
    before = signal.signal(signal.SIGTERM, interrupts.raise_terminated)
    try:
        with hung(process), pytest.raises(interrupts.Terminated), interrupts.taken():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            try:
                study.tell(trial, 1.0)
            finally:
                with pytest.raises(StorageError, match="does not answer"), storage_errors():
                    study.tell(trial, 1.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    again = optuna.load_study(study_name=study.study_name, storage=open_storage(url))
    assert again.trials[0].state in (TrialState.RUNNING, TrialState.COMPLETE)  # whole, or nothing of it


@pytest.mark.filterwarnings("ignore:Heartbeat")
def test_a_process_that_is_suspended_in_a_transaction_does_not_hold_up_the_others(postgresql, monkeypatch):
    study = optuna.create_study(storage=waited_for(open_storage(postgresql.url, create=True), Patience(60.0)))
    engine = open_storage(postgresql.url).engine
    engine.dispose()
    monkeypatch.setattr(hanging, "IDLE", 0.2)  # of the next connection
    connection = engine.connect()
    connection.exec_driver_sql("select * from studies for update")
    asked = threading.Thread(target=study.ask, daemon=True)
    asked.start()
    asked.join(60)
    assert len(study.trials) == 1
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="idle-in-transaction") as caught:
        connection.exec_driver_sql("select 1")
    assert is_lost(caught.value)  # so that it is done again
    connection.close()


def test_only_an_answer_is_waited_for_not_what_is_done_with_it(postgresql, monkeypatch):
    opened = open_storage(postgresql.url, create=True, pre_ping=True)
    monkeypatch.setattr(hanging, "ANSWER", 0.5)
    with opened.engine.connect() as connection:
        connection.exec_driver_sql("select 1")
        time.sleep(1.5)
        connection.exec_driver_sql("select 1")
        with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
            connection.exec_driver_sql("select pg_sleep(20)")
        assert is_lost(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_leaves_the_connections_of_the_other_alone(postgresql):
    open_storage(postgresql.url, create=True)
    with open_storage(postgresql.url).engine.connect() as connection:
        assert hanging._in_use
        with hanging._lock:  # of another thread, at that moment
            child = os.fork()
            if not child:
                os._exit(2 * bool(hanging._in_use) + hanging._lock.locked())
        assert os.waitpid(child, 0)[1] == 0
        assert connection.exec_driver_sql("select 1").scalar() == 1


def test_a_proxy_that_is_not_there_is_no_wait(monkeypatch):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    monkeypatch.setattr(grpc, "insecure_channel", lambda *_, **__: pytest.fail("gRPC waits"))
    with pytest.raises(StorageError, match="no proxy answers"):
        open_storage("grpc://127.0.0.1:9")
    with pytest.raises(StorageError, match="check the host"):
        open_storage("grpc://nowhere.invalid:9")
