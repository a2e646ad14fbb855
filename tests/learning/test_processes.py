"""Processes that work for one: all is done, and none outlives it."""

import os
import signal
import subprocess
import sys
import time

import part_work
import pytest

from ssdtune.learning.processes import run_in_processes, run_rounds
from ssdtune.progress import silent

SCRIPT = """
import sys
import time
from pathlib import Path

from ssdtune.learning.processes import run_in_processes
from ssdtune.progress import silent


def work(mark):
    Path(mark).touch()
    time.sleep(600)


if __name__ == "__main__":
    run_in_processes(work, sys.argv[1:], 2, track=silent, description="")
"""


def test_every_item_is_worked_on(tmp_path):
    run_in_processes(os.mkdir, [tmp_path / name for name in "abc"], 2, track=silent, description="")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_round_begins_when_the_one_before_it_is_done_in_the_same_processes(tmp_path):
    rounds = [[(tmp_path, number)] * 3 for number in range(2)]
    run_rounds(part_work.note, rounds, 2, track=silent, description="")
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert [number for number, _ in notes] == ["0"] * 3 + ["1"] * 3
    assert len({process for _, process in notes}) <= 2


def test_an_error_in_one_is_raised(tmp_path):
    with pytest.raises(FileExistsError):
        run_in_processes(os.mkdir, [tmp_path], 1, track=silent, description="")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_all_end_with_the_process_that_started_them(sent, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    marks = [tmp_path / "a", tmp_path / "b"]
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", *marks], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not all(mark.exists() for mark in marks):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(sent)
    process.communicate(timeout=60)  # until the last process that could write to the pipes is gone
    assert process.returncode != 0
