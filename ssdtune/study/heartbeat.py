"""Signs of life of the trials that run here, for machines that cannot ask for this process."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

import optuna

Record = Callable[[int], None]


class Heartbeat:
    """Records a sign of life of every running trial as it begins, and every ``interval`` seconds from one thread.

    record : stores one, of the trial of that id. interval : None records nothing. A sign that cannot be stored is left
    out: the next one may be stored, and a trial that has none for long is lost.
    """

    def __init__(self, record: Record, interval: float | None) -> None:
        self.interval = interval
        self._record = record
        self._running: set[int] = set()
        self._thread: threading.Thread | None = None

    def start(self, trial_id: int) -> None:
        """From now on, until ``stop``."""
        if self.interval is None:
            return
        self._running.add(trial_id)
        self.beat()
        if self._thread is None or not self._thread.is_alive():
            ended = threading.Event()
            weakref.finalize(self, ended.set)
            self._thread = threading.Thread(target=_go_on, args=(weakref.ref(self), self.interval, ended), daemon=True)
            self._thread.start()

    def stop(self, trial_id: int) -> None:
        self._running.discard(trial_id)

    def beat(self) -> None:
        """One sign for each that is running."""
        for trial_id in tuple(self._running):
            with suppress(optuna.exceptions.StorageInternalError):
                self._record(trial_id)


def _go_on(heartbeat: weakref.ref[Heartbeat], interval: float, ended: threading.Event) -> None:
    """Beat until nobody uses the heartbeat any more."""
    while not ended.wait(interval):
        alive = heartbeat()
        if alive is not None:
            alive.beat()
        del alive
