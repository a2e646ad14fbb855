"""Ctrl-C and SIGTERM at the right moment: within an evaluation at once, within the bookkeeping around it only when that
is done.

The storage runs transactions, and a KeyboardInterrupt in the middle of one may leave a trial half written, so outside
an evaluation the signal is kept until the trial is written. Signals belong to the process, and so does what is kept.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ALARM = getattr(signal, "SIGALRM", None)  # Windows has none
_AGAIN = 1.0
"""Seconds after which an interrupt within an evaluation is raised again: Python drops one that is raised in a callback
of the garbage collector."""

_ANSWER = 8.0
"""Seconds that what is not to be cut has after a signal: whoever else it waits for may never answer."""

_kept: KeyboardInterrupt | None = None
_welcome = _holding = False
_stopping = False
_raised: type[KeyboardInterrupt] = KeyboardInterrupt


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a process as Ctrl-C does, but for its exit code."""


def exit_code(reason: BaseException | None) -> int:
    """As a shell has it: 128 and the signal's number."""
    return 128 + int(signal.SIGTERM if isinstance(reason, Terminated) else signal.SIGINT)


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM where there is nothing to finish first."""
    raise Terminated


def end_on_sigterm() -> None:
    """Have SIGTERM end this process as Ctrl-C does, if nobody else handles it; for a command."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, raise_terminated)


def stop_asked() -> bool:
    """Whether a signal is kept, or was raised and what it ends is being left, so that whatever waits should give up."""
    return _kept is not None or _stopping


def check() -> None:
    """Raise a signal that was kept."""
    global _kept, _stopping
    if _kept is not None:
        kept, _kept, _stopping = _kept, None, True
        raise kept


@contextmanager
def taken() -> Iterator[None]:
    """Keep SIGINT and SIGTERM for ``welcome`` and ``check``; a second one is raised at once.

    At its end one that is still kept is raised, and so is one that was raised and that something within swallowed or
    made another error of, as a database's driver may. Within another ``taken``, elsewhere than in the main thread, or
    where somebody else handles them it does nothing.
    """
    global _kept, _stopping, _welcome, _holding
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: raise_terminated}
    if _ALARM is not None:
        usual[_ALARM] = signal.SIG_DFL
    main = threading.current_thread() is threading.main_thread()
    mine = [number for number, before in usual.items() if main and signal.getsignal(number) is before]
    for number in mine:
        signal.signal(number, _again if number == _ALARM else _handle)
    heard = False
    try:
        yield
    except KeyboardInterrupt:
        heard = True
        raise
    finally:
        if mine:
            _raise_in(0)
            for number in mine:
                signal.signal(number, usual[number])
            kept = _raised() if _kept is None and _stopping and not heard else _kept
            _kept, _stopping, _welcome, _holding = None, False, False, False
            if kept is not None:
                raise kept


@contextmanager
def welcome() -> Iterator[None]:
    """Where KeyboardInterrupt may be raised at any point, also one that was kept."""
    global _welcome
    _welcome = True
    try:
        check()
        yield
    finally:
        _welcome = False
        _raise_in(0)


@contextmanager
def held() -> Iterator[None]:
    """What is not to be cut, such as a transaction, also within ``welcome``: a signal is kept until its end.

    Not for ever: it is raised after ``_ANSWER`` seconds, as is one that was raised before.
    """
    global _welcome, _holding
    if _holding or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _welcome, _holding = _welcome, False, True
    if stop_asked():
        _raise_in(_ANSWER)
    try:
        yield
    finally:
        _welcome, _holding = before, False
        if stop_asked():
            _raise_in(_AGAIN if before else 0)
    if before:
        check()


def _handle(number: int, frame: FrameType | None) -> None:
    global _kept, _raised, _stopping
    _raised = Terminated if number == signal.SIGTERM else KeyboardInterrupt
    if _welcome:
        _stopping = True
        _raise_in(_AGAIN)
        raise _raised
    check()
    _kept = _raised()
    if _holding:
        _raise_in(_ANSWER)


def _again(number: int, frame: FrameType | None) -> None:
    global _kept, _stopping
    if _welcome or _holding:
        _kept, _stopping = None, True
        raise _raised


def _raise_in(seconds: float) -> None:
    """Again and again from then on; 0: no more."""
    if _ALARM is not None and signal.getsignal(_ALARM) is _again:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
