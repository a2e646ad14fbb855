"""``ssdtune worker``: whatever is left in a storage, the oldest study first, and what it skips."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress

import optuna
import pytest

from ssdtune.cli.events import Events
from ssdtune.cli.work import Work
from ssdtune.errors import StorageError
from ssdtune.objective.measure import Objective
from ssdtune.study import worker
from ssdtune.study.interrupts import Terminated
from ssdtune.study.storage import load_study, open_storage


@pytest.fixture
def work(run):
    """``work("--json")`` is ``ssdtune worker --json`` on the storage of ``run``."""
    return lambda *arguments: run(*arguments, group="worker")


def trials(run):
    return {row["name"]: row["trials"] for row in json.loads(run("list", "--json").out)}


def test_it_runs_what_is_left_the_oldest_study_first(study, run, work, tmp_path):
    for name in ("zeta", "alpha", "other"):
        assert run("create", study, "--name", name, "--trials", 2).code == 0
    run("run", "zeta", "--trials", 1)
    optuna.create_study(study_name="foreign", storage=f"sqlite:///{tmp_path}/studies.db")
    named = json.loads(work("other", "--json").out)
    assert [(row["name"], row["ran"]) for row in named["studies"]] == [("other", 2)]
    done = work("--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [(row["name"], row["ran"], row["trials"]) for row in told["studies"]] == [("zeta", 1, 2), ("alpha", 2, 2)]
    assert told["skipped"] == []
    assert told["storage"] == f"sqlite:///{tmp_path}/studies.db"
    assert trials(run) == {"zeta": 2, "alpha": 2, "other": 2, "foreign": 0}
    assert "nothing left to run" in work().out
    assert work("zetta").code == 4
    assert work("foreign").code == 4
    assert work("--device", "cuda:7").code == 2


@pytest.mark.parametrize("command", ["run", "worker"])
def test_a_place_that_another_machine_has_lost_is_taken(study, run, work, tmp_path, command):
    url = f"sqlite:///{tmp_path}/studies.db"
    run("create", study, "--name", "full", "--trials", 1)
    storage = open_storage(url)
    lost = load_study("full", storage).ask()
    lost.set_user_attr("worker", "elsewhere-1")
    storage.record_heartbeat(1)
    taken = (lambda: run("run", "full")) if command == "run" else work
    left = taken()  # as it may be at work
    assert left.code == (2 if command == "run" else 0)
    assert ("all trials (1) are under way in other processes" in left.err) == (command == "run")
    assert trials(run) == {"full": 0}
    foreign = optuna.create_study(study_name="foreign", storage=open_storage(url))
    foreign.ask()
    with sqlite3.connect(tmp_path / "studies.db") as database:
        database.execute("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'")
    assert taken().code == 0
    assert trials(run) == {"full": 1, "foreign": 0}
    assert foreign.trials[0].state == optuna.trial.TrialState.RUNNING


def test_a_study_whose_inputs_changed_is_skipped_in_one_line(study, run, work, fastmri_file):
    run("create", study, "--name", "changed")
    fastmri_file(study.parent / "forget" / "forget.h5", slices=3, coils=2, shape=(32, 32), seed=9, clean=True)
    run("create", study, "--name", "sound", "--trials", 2)
    done = work()
    assert done.code == 3
    (line,) = [line for line in done.err.splitlines() if line.startswith("skipped")]
    assert line.startswith("skipped study changed: inputs changed since the study was made: forget data")
    assert trials(run) == {"changed": 0, "sound": 2}
    assert "sound" in done.out
    (study.parent / "model.pt").unlink()
    told = json.loads(work("changed", "--json").out)
    assert told["studies"] == []
    assert [(each["study"], each["exit_code"]) for each in told["skipped"]] == [("changed", 3)]


def test_a_study_that_takes_the_number_of_a_deleted_one_is_run(study, run, tmp_path):
    run("create", study, "--name", "first", "--trials", 2)
    work = Work(
        lambda: open_storage(f"sqlite:///{tmp_path}/studies.db"), (), "cpu", Events(False), patience=1, failures=3
    )
    assert work.run_round() == 0
    run("delete", "first", "--yes")
    run("create", study, "--name", "second", "--trials", 3)
    assert work.run_round() == 0
    assert [(row["name"], row["ran"]) for row in work.rows()] == [("second", 3)]


def test_a_trial_that_fails_is_tried_again_and_its_study_set_aside(study, run, work, monkeypatch):
    run("create", study, "--name", "failing", "--trials", 2)
    run("create", study, "--name", "sound", "--trials", 1)
    monkeypatch.setattr(worker, "FIRST_PAUSE", 0.05)
    measure, failures = Objective.measure, []

    def failing(self, *given):
        if len(failures) < 3:
            failures.append(1)
            raise RuntimeError("no memory at /data/DOE_JOHN")
        return measure(self, *given)

    monkeypatch.setattr(Objective, "measure", failing)
    done = work("--failures", 2, "--log-json", "--json")
    assert done.code == 5
    assert "DOE" not in done.err
    events = [json.loads(line) for line in done.err.splitlines()]
    told = [(each["event"], each.get("study")) for each in events if each["event"] in ("failed", "set_aside", "trial")]
    assert told == [("failed", "failing"), ("failed", "sound"), ("set_aside", "failing"), ("trial", "sound")]
    assert "DOE_JOHN" in json.loads(done.out)["skipped"][0]["error"]
    assert work().code == 0  # a new worker tries again
    assert trials(run) == {"failing": 2, "sound": 1}


@pytest.mark.parametrize("names", [(), ("DOE_JOHN",)])
def test_what_ends_a_worker_is_an_event_too(work, study, run, tmp_path, monkeypatch, names):
    if names:
        run("create", study, "--name", "one", "--trials", 1)
    done = work(*names, "--log-json")
    assert done.code == 4
    (event,) = [json.loads(line) for line in done.err.splitlines()]
    assert (event["event"], event["error"]) == ("error", "StorageError")
    assert "DOE" not in done.err and "no s" in event["why"]

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssdtune.cli.work.patiently", stopped)
    done = work("--log-json")
    assert done.code == 130
    assert json.loads(done.err)["event"] == "stopped"


@pytest.fixture
def as_in_a_program():
    """SIGTERM is nobody's yet; Ray, which other tests start, takes it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("as_in_a_program")
def test_a_signal_while_the_storage_is_opened_waits_for_the_database_and_is_not_lost(work, study, run, monkeypatch):
    run("create", study, "--name", "one", "--trials", 1)
    opened = []

    def open_and_tell(url):
        os.kill(os.getpid(), signal.SIGTERM)
        opened.append(url)
        return open_storage(url)

    with monkeypatch.context() as patched:
        patched.setattr("ssdtune.study.storage.open_storage", open_and_tell)
        assert work().code == 143
    assert len(opened) == 1
    assert trials(run) == {"one": 0}


def test_a_signal_as_soon_as_it_is_answered_ends_it_in_one_line(work, monkeypatch):
    def told_at_once():
        raise Terminated

    monkeypatch.setattr("ssdtune.cli.end_on_sigterm", told_at_once)
    done = work()
    assert (done.code, done.err) == (143, "stopped\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--port", 70_000], "invalid value for '--port': 70000 is not in the range …"),
        (["--watc"], "no such option"),
        (["--data-root", "/data/DOE"], "invalid value for '--data-root' (env var:"),
    ],
)
def test_wrong_usage_is_an_event_too(work, words, why):
    done = work(*words, "--log-json")
    assert done.code == 2
    (event,) = [json.loads(line) for line in done.err.splitlines()]
    assert event["event"] == "error" and why in event["why"] and "DOE" not in done.err


def test_a_warning_is_an_event_too(work, tmp_path):
    done = work("--storage", f"sqlite:///{tmp_path}/studies.db?password=DOE", "--log-json")
    assert "DOE" not in done.err
    assert [json.loads(line)["event"] for line in done.err.splitlines()] == ["message", "error"]


@pytest.mark.parametrize(
    ("name", "place", "code"),
    [
        ("SSDTUNE_DATA", "nowhere", 2),
        ("SSDTUNE_ARTIFACTS", "s4://bucket", 2),
        ("SSDTUNE_ARTIFACTS", "s3://bucket?endpoint=nowhere", 2),
        ("SSDTUNE_ARTIFACTS", "/dev/null/pictures", 4),
    ],
)
def test_places_of_data_and_pictures_are_looked_at_before_the_storage(work, monkeypatch, name, place, code):
    monkeypatch.setenv(name, place)
    done = work()  # the storage is not there either
    assert done.code == code
    (line,) = done.err.splitlines()
    assert place in line and (name in line or "artifact" in line)


def test_workers_share_a_storage_and_one_watches_for_new_studies(study, run, tmp_path, start_process):
    run("create", study, "--name", "first", "--trials", 20)
    url = f"sqlite:///{tmp_path}/studies.db"
    start = [sys.executable, "-c", "from ssdtune.cli import main; main()", "worker", "--json", "--storage", url]
    watching, other = (
        start_process([*start, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for more in (["--watch", "0.2"], [])
    )
    ends = [other.communicate(timeout=120)]
    assert other.returncode == 0, ends
    run("create", study, "--name", "second", "--trials", 2)
    while trials(run) != {"first": 20, "second": 2}:
        assert watching.poll() is None, watching.communicate()
        time.sleep(0.1)
    ends.append(_interrupted(watching))
    assert watching.returncode == 130
    assert ends[-1][1].splitlines()[-1].endswith(f"go on with: ssdtune worker --watch 0.2 --storage {url}")
    rows = [row for out, _ in ends for row in json.loads(out)["studies"]]
    assert {row["name"]: row["ran"] for row in rows if row["name"] == "second"} == {"second": 2}
    assert sum(row["ran"] for row in rows if row["name"] == "first") == 20


def _interrupted(process):
    """What it printed after Ctrl-C, pressed again where Python lost it (one that arrives in a weak reference's callback
    is printed and ignored)."""
    for _ in range(12):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=15)
    raise AssertionError("it does not stop")


@pytest.mark.parametrize("patience", [0, 7])
def test_a_storage_that_is_not_waited_for_is_one_line(patience, capsys):
    from ssdtune.cli.work import Work

    work = Work(lambda: None, (), "cpu", Events(False), patience=patience, failures=3)
    work.patience.has_failed(StorageError("it does not answer"))
    assert capsys.readouterr().err.count("waiting up to 7 s") == (patience > 0)
