"""A study on a PostgreSQL server of the test's own, from Debian's programs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest


def test_a_study_is_created_run_and_listed(postgresql, study, run):
    database = postgresql.url
    created = run("create", study, "--trials", 2, "--storage", database)
    assert created.code == 0, created.err
    ran = run("run", "small", "--storage", database)
    assert ran.code == 0, ran.err
    (row,) = json.loads(run("list", "--json", "--storage", database).out)
    assert (row["name"], row["trials"], row["of"]) == ("small", 2, 2)
    absent = run("show", "smal", "--storage", database)
    assert absent.code == 4
    for done in (created, ran, absent):
        assert "lab:***@" in done.out + done.err
        assert "secret" not in done.out + done.err


@pytest.mark.parametrize("hung", [False, True])
def test_a_worker_that_waits_for_the_database_stops_when_told(hung, postgresql, study, run, start_process, tmp_path):
    assert run("create", study, "--trials", 10_000, "--storage", postgresql.url).code == 0
    start = [sys.executable, "-c", "from ssdtune.cli import main; main()", "worker", "--watch", "--log-json"]
    log = tmp_path / "log"
    with log.open("w") as out:
        worker = start_process(start, stderr=out, env={**os.environ, "SSDTUNE_STORAGE": postgresql.url})

    def wait_for(event):
        while f'"{event}"' not in log.read_text():
            assert worker.poll() is None, log.read_text()
            time.sleep(0.1)

    wait_for("trial")
    if hung:
        with postgresql.hung():
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
    else:
        postgresql.stop()
        try:
            wait_for("storage_lost")
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)  # the patience is five minutes
        finally:
            postgresql.start()
    assert worker.returncode == 143
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "stopped"
    assert json.loads(run("list", "--json", "--storage", postgresql.url).out)[0]["trials"] >= 1


def test_a_worker_whose_database_does_not_come_back_ends_with_4(postgresql, study, run, start_process, tmp_path):
    assert run("create", study, "--trials", 10_000, "--storage", postgresql.url).code == 0
    start = [sys.executable, "-c", "from ssdtune.cli import main; main()", "worker", "--watch", "--log-json"]
    log = tmp_path / "log"
    with log.open("w") as out:
        environment = {**os.environ, "SSDTUNE_STORAGE": postgresql.url}
        worker = start_process([*start, "--patience", "2"], stderr=out, env=environment)
    while '"trial"' not in log.read_text():
        assert worker.poll() is None, log.read_text()
        time.sleep(0.1)
    postgresql.stop()
    try:
        assert worker.wait(120) == 4
    finally:
        postgresql.start()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events[-2:]] == ["storage_lost", "error"]
    finished = sum(event["event"] == "trial" for event in events)
    assert json.loads(run("list", "--json", "--storage", postgresql.url).out)[0]["trials"] >= finished


def test_a_run_whose_database_is_gone_for_good_ends_by_ctrl_c(postgresql, study, run, start_process):
    assert run("create", study, "--trials", 10_000, "--storage", postgresql.url).code == 0
    # as in a terminal, whoever started these tests
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    words = ["study", "run", "small", "--storage", postgresql.url]
    start = [sys.executable, "-c", f"{heard}; from ssdtune.cli import main; main()", *words]
    process = start_process(start, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    seen = []

    def wait_for(what):
        while not (seen and what in seen[-1]):
            seen.append(process.stderr.readline())
            assert seen[-1], seen

    wait_for("trial 0")
    postgresql.stop()
    try:
        wait_for("the storage does not answer")
        process.send_signal(signal.SIGINT)
        (last,) = process.communicate(timeout=10)[1].splitlines()
    finally:
        postgresql.start()
    assert process.returncode == 130
    assert last.startswith("stopped: all finished trials are kept; go on with: ssdtune study run small")
