"""A server that answers nothing and leaves its connections open: stopped, cut off without a word, or itself waiting.

psycopg waits for an answer without end, and the signs of life of TCP come from a server's system, not from the server.
So a thread shuts down connections on which one answer is waited for too long. The call then fails as where the server
has closed them, and ``patience`` goes on from there. PyMySQL and gRPC end a call in time if they are asked to.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import sqlalchemy
from optuna.storages import GrpcStorageProxy
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
    """Have each call of Optuna's proxy end in time, for which it has no option."""
    for name, call in vars(proxy._stub).items():
        setattr(proxy._stub, name, partial(call, timeout=PROXY))


def _end_idle_transactions(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {round(IDLE * 1000)}")
    connection.commit()


def _watch(connection: Any, entry: Any, *_: Any) -> None:
    _forget(entry)
    if not connection.closed:
        _start(os.getpid())
        with _lock:
            handle = socket.socket(fileno=os.dup(connection.fileno()))
            _in_use[entry] = _Use(connection, handle, time.monotonic())


def _forget(entry: Any) -> None:
    with _lock:
        if entry in _in_use:
            _in_use.pop(entry).handle.close()


@cache
def _start(process: int) -> None:
    """The thread of this process, which a fork has not."""
    threading.Thread(target=_shut_down_hanging, daemon=True).start()


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
