"""A process a device: a signal reaches each, and none outlives the process that started them."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from ssdtune.cli import worker_processes

SLEEP = "import os, sys, time; print(os.environ['WHERE'], flush=True); time.sleep(60)"
PARENT = """
import sys
from ssdtune.cli import worker_processes
worker_processes._START = [sys.executable, "-c", sys.argv[1]]
sys.exit(worker_processes.run_processes([[], []], {"WHERE": "here"}))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_each(number, monkeypatch):
    monkeypatch.setattr(worker_processes, "_START", [sys.executable, "-c", SLEEP])
    started = time.monotonic()
    threading.Timer(1, os.kill, (os.getpid(), number)).start()
    assert worker_processes.run_processes([[], []], {"WHERE": "here"}) == 128 + number
    assert time.monotonic() - started < 50


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that its parent ended")
def test_none_outlives_the_one_that_started_them(start_process):
    parent = start_process([sys.executable, "-c", PARENT, SLEEP], stdout=subprocess.PIPE, text=True)
    assert [parent.stdout.readline(), parent.stdout.readline()] == ["here\n", "here\n"]
    members = parent.children()
    assert len(members) == 2
    parent.kill()
    assert not psutil.wait_procs(members, 30)[1]


def test_the_first_exit_code_that_is_not_0_is_theirs(monkeypatch):
    monkeypatch.setattr(worker_processes, "_START", [sys.executable, "-c", "import sys; sys.exit(int(sys.argv[1]))"])
    assert worker_processes.run_processes([["0"], ["4"], ["5"]], {}) == 4
    assert worker_processes.run_processes([["0"], ["0"]], {}) == 0
