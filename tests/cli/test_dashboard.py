"""``ssdtune dashboard``: the real optuna-dashboard on a real storage, and what is refused."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import optuna
import pytest

from ssdtune.cli import main

COMMAND = [sys.executable, "-c", "from ssdtune.cli import main; main()", "dashboard"]


def test_it_serves_the_studies_of_the_storage(tmp_path, start_process):
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.create_study(study_name="shown", storage=url)
    process = start_process(
        [*COMMAND, "--storage", url, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        address = line.split(": ")[1].split()[0]
        assert url in line
        with urllib.request.urlopen(f"{address}api/studies", timeout=120) as answer:
            studies = json.load(answer)["study_summaries"]
        assert [study["study_name"] for study in studies] == ["shown"]
        with urllib.request.urlopen(f"{address}dashboard", timeout=120) as answer:
            assert b"Optuna Dashboard" in answer.read()
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.strip() == "stopped"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["dashboard", *arguments])
    return stop.value.code, capsys.readouterr().err


def test_a_storage_that_is_not_there_is_refused_and_not_made(tmp_path, capsys):
    code, err = run(capsys, "--storage", f"sqlite:///{tmp_path}/none.db")
    assert code == 4
    assert "no storage there" in err
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_line(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.create_study(study_name="shown", storage=url)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, err = run(capsys, "--storage", url, "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "cannot listen" in err
    assert err.count("\n") == 1
