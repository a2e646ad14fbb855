"""Ctrl-C at the right moment: within an evaluation at once, within the bookkeeping around it only when that is done.

The storage runs transactions, and a KeyboardInterrupt in the middle of one may leave a trial half written, so outside
an evaluation the signal is kept until the trial is written.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Takes over SIGINT while ``taken`` is entered; elsewhere than in the main thread it does nothing."""

    def __init__(self) -> None:
        self._welcome = False
        self._pending = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep Ctrl-C for ``welcome`` and ``check``; a second one is raised at once."""
        before = signal.getsignal(signal.SIGINT)
        mine = threading.current_thread() is threading.main_thread() and before is signal.default_int_handler
        if mine:
            signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            if mine:
                signal.signal(signal.SIGINT, before)

    @contextmanager
    def welcome(self) -> Iterator[None]:
        """Where KeyboardInterrupt may be raised at any point, also one that was kept."""
        self._welcome = True
        try:
            self.check()
            yield
        finally:
            self._welcome = False

    def check(self) -> None:
        """Raise a Ctrl-C that was kept."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._welcome or self._pending:
            raise KeyboardInterrupt
        self._pending = True
