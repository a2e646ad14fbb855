"""One worker a device: processes of their own, stopped together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

_START = [sys.executable, "-c", "from ssdtune.cli import main; main()"]
_PR_SET_PDEATHSIG = 1


def run_processes(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> int:
    """Run ``ssdtune`` commands at once; SIGINT and SIGTERM reach each, once. Returns the first exit code that is not 0.

    ``environment`` carries what the list of processes should not show.
    """
    # in sessions of their own, as a terminal sends Ctrl-C to all of a group, and a second one ends them at once
    processes = [
        subprocess.Popen(
            [*_START, *command],
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=ending_with_parent(signal.SIGTERM),
        )
        for command in commands
    ]
    stopped = 0

    def stop(number: int, _: object) -> None:
        nonlocal stopped
        stopped = number
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(0.2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    codes = [code if code >= 0 else 128 - code for code in (process.wait() for process in processes)]
    if stopped:
        return 128 + stopped
    return next((code for code in codes if code), 0)


def ending_with_parent(number: int) -> Callable[[], None]:
    """What a new process calls to be sent a signal when what started it ends, however it ends; on Linux alone.

    What started it is a thread, to be exact. To be asked for by that process.
    """
    if sys.platform != "linux":
        return lambda: None
    parent, libc = os.getpid(), ctypes.CDLL(None)

    def end() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it has ended meanwhile
            os.kill(os.getpid(), number)

    return end
