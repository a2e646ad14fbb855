"""A server that answers nothing and leaves its connections open: stopped, cut off without a word, or itself waiting.

psycopg waits for an answer without end, and the signs of life of TCP come from a server's system, not from the server.
So a thread shuts down connections that one transaction has had for too long. The call then fails as where the server
has closed them, and ``patience`` goes on from there. PyMySQL and gRPC end a call in time if they are asked to.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from functools import cache, partial
from typing import Any

import sqlalchemy
from optuna.storages import GrpcStorageProxy
from sqlalchemy.pool import QueuePool

from ssdtune.study.interrupts import stop_asked

ANSWER = 30.0
"""Seconds that a server has to answer, and a transaction to end."""

ANSWER_AT_END = 5.0
"""The same once a signal has asked this process to stop."""

IDLE = 20.0
"""Seconds after which PostgreSQL ends a transaction whose process is suspended, and with it what others wait for."""

_LOOK = 0.5  # seconds

_in_use: dict[Any, tuple[float, socket.socket]] = {}  # a pool's entry: since when, and another handle on its socket
_lock = threading.Lock()


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
        setattr(proxy._stub, name, partial(call, timeout=ANSWER))


def _end_idle_transactions(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {round(IDLE * 1000)}")
    connection.commit()


def _watch(connection: Any, entry: Any, *_: Any) -> None:
    _forget(entry)
    if not connection.closed:
        _start(os.getpid())
        with _lock:
            _in_use[entry] = time.monotonic(), socket.socket(fileno=os.dup(connection.fileno()))


def _forget(entry: Any) -> None:
    with _lock:
        if entry in _in_use:
            _in_use.pop(entry)[1].close()


@cache
def _start(process: int) -> None:
    """The thread of this process, which a fork has not."""
    threading.Thread(target=_shut_down_hanging, daemon=True).start()


def _shut_down_hanging() -> None:
    while True:
        time.sleep(_LOOK)
        latest = time.monotonic() - (ANSWER_AT_END if stop_asked() else ANSWER)
        for entry in [entry for entry, (since, _) in list(_in_use.items()) if since < latest]:
            with _lock, suppress(KeyError, OSError):  # it was returned meanwhile, or closed by the other side
                _in_use[entry][1].shutdown(socket.SHUT_RDWR)
            _forget(entry)
