"""Work in several processes that end with the one that started them, also when that is interrupted or killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TypeVar

from ssdtune.progress import Track

T = TypeVar("T")


def run_in_processes(
    work: Callable[[T], object], items: Sequence[T], workers: int, *, track: Track, description: str
) -> None:
    """Call ``work`` on every item, in ``workers`` processes; an error in one, or Ctrl-C, ends all of them at once."""
    run_rounds(work, [items], workers, track=track, description=description)


def run_rounds(
    work: Callable[[T], object], rounds: Sequence[Sequence[T]], workers: int, *, track: Track, description: str
) -> None:
    """The same for items of which those of one round are all done before the next begins, in the same processes.

    Every process reads from a pipe that only this one can write to: its end is closed after an error, and by the
    system when this process is gone.
    """
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its thread pool
    theirs, mine = context.Pipe(duplex=False)
    with theirs, mine, ProcessPoolExecutor(workers, context, _end_with, (theirs,)) as pool:
        try:
            for items in rounds:
                futures = [pool.submit(work, item) for item in items]
                for future in track(as_completed(futures), description, len(futures)):
                    future.result()
        except BaseException:
            mine.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with(parent: Connection) -> None:
    """In a new process: leave Ctrl-C to the parent, and end as soon as its end of the pipe is closed."""

    def wait() -> None:
        with suppress(EOFError, OSError):
            parent.recv()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait, daemon=True).start()
