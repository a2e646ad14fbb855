"""A server that answers nothing and leaves its connections open: stopped, cut off without a word, or itself waiting.

psycopg waits for an answer without end, and the signs of life of TCP come from a server's system, not from the server.
So a thread shuts down connections on which one answer is waited for too long. The call then fails as where the server
has closed them, and ``patience`` goes on from there. PyMySQL ends a call in time if it is asked to; so would gRPC, but
Optuna's proxy asks for nothing and hands no option on, and no environment variable sets one. What it offers is to close
its channel, which ends the calls on it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, GrpcStorageProxy
from sqlalchemy.pool import QueuePool

from ssdtune.study.interrupts import stop_asked

ANSWER, ANSWER_AT_END = 30.0, 5.0
"""Seconds that a database has to carry out a statement: at most, and once a signal has asked this process to stop."""

PROXY = 120.0
"""Seconds that a proxy has for a call, which may be to read a whole study from its database."""

IDLE = 60.0
"""Seconds after which PostgreSQL ends a transaction whose process is suspended, and with it what others wait for."""

_LOOK = 0.5  # seconds
_ACTIVE = 1  # libpq's status of a connection while a statement is carried out

_lock = threading.Lock()


@dataclass
class _Use:
    """A connection that is in use, another handle on its socket, and when nothing was waited for last."""

    connection: Any
    handle: socket.socket
    since: float


_in_use: dict[Any, _Use] = {}  # by the entry of a pool


class WatchedPool(QueuePool):
    """Connections to PostgreSQL, none of which is waited for without end."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        # the first comes with a new connection, which SQLAlchemy asks a few things before it hands it out
        sqlalchemy.event.listen(self, "connect", _watch)
        sqlalchemy.event.listen(self, "connect", _end_idle_transactions)
        sqlalchemy.event.listen(self, "checkout", _watch)
        sqlalchemy.event.listen(self, "checkin", lambda connection, entry: _forget(entry))


def limit_calls(proxy: GrpcStorageProxy) -> None:
    """Have each method of Optuna's proxy end in time, by a TimeoutError and with a new channel for the next."""
    limit = _Limit(proxy)
    for name in dir(BaseStorage):
        if not name.startswith("_"):
            setattr(proxy, name, partial(limit.within, getattr(proxy, name)))


class _Limit:
    """Closes the channel of a proxy under whatever takes too long, of all threads."""

    def __init__(self, proxy: GrpcStorageProxy) -> None:
        self._proxy, self._lock, self._closed = proxy, threading.Lock(), 0

    def within(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What the call gives. Raises TimeoutError: too late, or another thread's was."""
        with self._lock:
            before = self._closed
        timer = threading.Timer(PROXY, self._close, (before,))
        timer.daemon = True
        timer.start()
        try:
            return call(*given, **named)
        except Exception as reason:
            with self._lock:
                if self._closed == before:
                    raise
            raise TimeoutError(f"no answer within {PROXY:.0f} s") from reason
        finally:
            timer.cancel()

    def _close(self, before: int) -> None:
        with self._lock:
            if self._closed == before:  # else it is closed already
                self._proxy.close()
                self._proxy.__setstate__(self._proxy.__getstate__())  # which opens one, as a pickled proxy does
                self._closed += 1


def _end_idle_transactions(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {round(IDLE * 1000)}")
    connection.commit()


def _watch(connection: Any, entry: Any, *_: Any) -> None:
    _forget(entry)
    if not connection.closed:
        _start()
        with _lock:
            handle = socket.socket(fileno=os.dup(connection.fileno()))
            _in_use[entry] = _Use(connection, handle, time.monotonic())


def _forget(entry: Any) -> None:
    with _lock:
        if entry in _in_use:
            _in_use.pop(entry).handle.close()


@cache
def _start() -> None:
    threading.Thread(target=_shut_down_hanging, daemon=True).start()


def _forked() -> None:
    """A forked process has no thread yet, and the connections of the one before are not its to shut down."""
    global _lock
    _lock = threading.Lock()  # which may have been held
    for use in _in_use.values():
        use.handle.close()
    _in_use.clear()
    _start.cache_clear()


if hasattr(os, "register_at_fork"):  # Windows forks no process
    os.register_at_fork(after_in_child=_forked)


def _shut_down_hanging() -> None:
    while True:
        time.sleep(_LOOK)
        now, given = time.monotonic(), ANSWER_AT_END if stop_asked() else ANSWER
        with _lock:
            for use in _in_use.values():
                if use.connection.info.transaction_status != _ACTIVE:
                    use.since = now
                elif now - use.since > given:
                    with suppress(OSError):  # the other side has closed it
                        use.handle.shutdown(socket.SHUT_RDWR)
