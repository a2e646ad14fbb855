"""Studies run by processes of their own: several at once, and one that is stopped."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from small_task import ssd

from ssdtune.study.record import read_trial
from ssdtune.study.run import run_study
from ssdtune.study.trials import FINISHED, count_trials


def outcomes(study):
    return [(trial.params, trial.value) for trial in study.trials if trial.state in FINISHED]


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import small_task
from small_task import ssd
from ssdtune.study.run import run_study
from ssdtune.study.storage import load_study, open_storage

task = {task}
study, analysis = load_study("demo", open_storage({url!r})), small_task.Diagonals(task)
print("ready", flush=True)
sys.stdin.readline()
try:
    run_study(study, task, ssd(task, analysis), trials={trials})
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def start(start_process):
    """``start(url, trials, task)``: a process that has all it needs of it and waits for a line before it runs."""
    return lambda *given: start_process(_command(*given), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _command(url, trials, task):
    script = SCRIPT.format(folder=str(Path(__file__).parents[1]), url=url, trials=trials, task=task)
    return [sys.executable, "-c", textwrap.dedent(script)]


def go(processes):
    """Lets processes run at once, when all are ready."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def test_ctrl_c_in_a_process_of_its_own_keeps_finished_trials(task, analysis, new_study, storage, url, start):
    study = new_study(trials=400, storage=storage)
    process = start(url, 400, "small_task.make_task(kind=small_task.SlowTask)")
    go([process])
    while count_trials(study).finished < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    counts = count_trials(study)
    assert counts.running == 0
    assert counts.finished >= 2
    kept = outcomes(study)
    run_study(study, task, ssd(task, analysis), trials=counts.finished + 3)
    assert outcomes(study)[: counts.finished] == kept
    assert count_trials(study).finished == counts.finished + 3


def test_several_processes_share_one_sqlite_file(new_study, storage, url, start):
    study = new_study(trials=10, storage=storage)
    processes = [start(url, 10, "small_task.make_task(kind=small_task.SlowTask)") for _ in range(2)]
    go(processes)
    assert [process.wait(120) for process in processes] == [0, 0]
    trials = study.get_trials(states=FINISHED)
    assert len(trials) == 10
    assert count_trials(study).running == count_trials(study).failed == 0
    assert len({tuple(trial.params.values()) for trial in trials}) == len(trials)
    assert len({read_trial(trial)["worker"] for trial in trials}) > 1
