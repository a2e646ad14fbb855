"""Several calls of a database in one transaction: each of Optuna's storage methods is one of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from optuna.storages import RDBStorage
from sqlalchemy.orm import scoped_session

T = TypeVar("T")


def in_one_transaction(database: RDBStorage, work: Callable[[], T]) -> T:
    """What ``work`` gives, which calls the storage, once all that it wrote is committed; nothing is if it raises.

    Where Optuna takes a call back and goes on (what is written is there already, a deadlock), all of ``work`` is taken
    back and done again in transactions of its own, so it must be free to be done twice. So it is done at once where an
    Optuna keeps its sessions elsewhere than in ``scoped_session``, which its documentation does not promise.
    """
    given = getattr(database, "scoped_session", None)
    if isinstance(given, scoped_session):
        database.scoped_session = given = _Sessions(given)  # type: ignore[assignment]
    if not isinstance(given, _Sessions):
        return work()
    with given.joined() as session:
        found = work()
        if not session.taken_back:
            session.really_commit()
            return found
    return work()


class _Sessions:
    """Optuna's sessions, one a thread; a thread's may be joined, so that what it commits waits for more."""

    def __init__(self, sessions: Any) -> None:
        self._sessions, self._here = sessions, threading.local()

    def __call__(self) -> Any:
        joined = getattr(self._here, "joined", None)
        return self._sessions() if joined is None else joined

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sessions, name)

    @contextmanager
    def joined(self) -> Iterator[_Joined]:
        session = self._sessions()
        self._here.joined = _Joined(session)
        try:
            yield self._here.joined
        finally:
            self._here.joined = None
            session.close()  # takes back what is not committed


class _Joined:
    """A session whose users commit and close for themselves, which only really happens at the end."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.taken_back = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def commit(self) -> None:
        self._session.flush()

    def rollback(self) -> None:
        self.taken_back = True
        self._session.rollback()

    def close(self) -> None:
        pass

    def really_commit(self) -> None:
        self._session.commit()
