"""A storage that is waited for: what a lost connection cuts short is done again until the database answers.

Each method of an Optuna storage is one transaction, so doing it again is safe but where the first time may have been
carried out unseen: a new trial is marked, so that it is found again, and an end that is there already is accepted.
"""

from __future__ import annotations

import random
import re
import socket
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from ssdtune.errors import StorageError
from ssdtune.study.interrupts import held, stop_asked
from ssdtune.study.lost import heartbeat_interval
from ssdtune.study.record import ORIGIN
from ssdtune.study.together import in_one_transaction

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds that a database which does not answer is waited for."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0  # seconds
_FOR_GOOD = re.compile(
    # not the name of a host that is unknown, as that of a container is while it restarts
    "authentication failed|no password|access denied|does not exist|unknown database",
    re.I,
)
_MARK = "ssdtune:asked"
_ONCE = ("create_new_study", "delete_study")  # of these, the second time would fail where the first was carried out
_KNOWN = ("get_heartbeat_interval", "get_heartbeat_stale_trial_callback")  # these say nothing of whether it answers


@dataclass
class Patience:
    """How long a storage is waited for, and how it fares.

    ``on_change`` is told why it is lost, or None once it answers again, and the seconds waited.
    """

    seconds: float = PATIENCE
    on_change: Callable[[Exception | None, float], None] = lambda why, waited: None
    answered: float = field(default_factory=time.monotonic)
    lost_since: float | None = None
    spent: float = 0.0
    """Seconds in the storage, of all threads, without those waited."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def has_answered(self, seconds: float) -> None:
        with self._lock:
            self.answered, before, self.lost_since = time.monotonic(), self.lost_since, None
            self.spent += seconds
        if before is not None:
            self.on_change(None, self.answered - before)

    def has_failed(self, reason: Exception) -> None:
        with self._lock:
            first, now = self.lost_since is None, time.monotonic()
            self.lost_since = now if first else self.lost_since
        if first and self.seconds:  # otherwise nothing is waited for, and the error says why
            self.on_change(reason, 0.0)

    def check(self) -> None:
        """Raises StorageInternalError where it is known not to answer, and nobody may wait for it any more."""
        if self.lost_since is not None and (stop_asked() or not self.seconds):
            raise StorageInternalError("it does not answer")


def waited_for(storage: BaseStorage, patience: Patience) -> BaseStorage:
    """The storage, with Optuna's cache over it where it is a database, every method of which waits for it to answer.

    To be made anew for each study that is visited: the cache goes by numbers, which a deleted study gives back.
    A signal that ``interrupts`` keeps ends the wait. A wrong query, a full disk, or an SQLite file that is locked is no
    lost connection.
    """
    waiting = get_storage(storage)
    if hasattr(waiting, "patience"):  # a journal or a proxy, which Optuna puts no cache over
        return waiting
    waiting.patience = patience  # type: ignore[attr-defined]
    plain = {name: getattr(waiting, name) for name in dir(type(waiting)) if not name.startswith("__")}
    create, find_all, read = (plain[name] for name in ("create_new_trial", "get_all_trials", "get_trial"))

    def at_once(work: Callable[[], T]) -> T:
        return in_one_transaction(storage, work) if isinstance(storage, RDBStorage) else work()

    def create_marked(study_id: int, template_trial: FrozenTrial | None = None) -> int:
        template = template_trial or optuna.trial.create_trial(state=TrialState.RUNNING)
        mark = signature(template)
        if mark is None:
            mark = uuid.uuid4().hex
            template.system_attrs = {**template.system_attrs, _MARK: mark}
        call = _Call(lambda: at_once(lambda: begin(study_id, template)), patience, lambda: find_marked(study_id, mark))
        return int(call())

    def begin(study_id: int, template: FrozenTrial) -> int:
        """A new trial with its first sign of life: a process that ends before the next one leaves it to be found."""
        trial_id = int(create(study_id, template))
        if template.state == TrialState.RUNNING and heartbeat_interval(storage) is not None:
            plain["record_heartbeat"](trial_id)
        return trial_id

    def signature(trial: FrozenTrial) -> Any:
        """What marks a trial under way that is made with its signature: its process takes no seed for two at a time."""
        return trial.user_attrs.get(ORIGIN) if trial.state == TrialState.RUNNING else None

    def find_marked(study_id: int, mark: Any) -> int | None:
        # asked of the database itself: Optuna's cache over it keeps a trial whose transaction was taken back
        all_trials = storage.get_all_trials if isinstance(storage, RDBStorage) else find_all
        trials = all_trials(study_id, deepcopy=False)
        marked = [trial for trial in trials if mark in (trial.system_attrs.get(_MARK), signature(trial))]
        return marked[0]._trial_id if marked else None

    def ended(trial_id: int, state: TrialState, *_: Any) -> bool | None:
        return True if read(trial_id).state == state else None

    def end(trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        call = _Call(plain["set_trial_state_values"], patience, lambda: ended(trial_id, state))
        return bool(call(trial_id, state, values))

    def write_together(writes: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        """Methods of this storage that write, by name, and what they are given; an end, if any, of one trial."""
        ends = [given for name, given in writes if name == "set_trial_state_values"]

        def write() -> None:
            for name, given in writes:
                plain[name](*given)

        _Call(at_once, patience, (lambda: ended(*ends[-1])) if ends else None)(write)

    for name, method in plain.items():
        if (
            callable(method)
            and (not name.startswith("_") or name == "_get_stale_trial_ids")
            and name not in _ONCE + _KNOWN
        ):
            setattr(waiting, name, _Call(method, patience))
    waiting.create_new_trial = create_marked  # type: ignore[method-assign]
    waiting.set_trial_state_values = end  # type: ignore[method-assign]
    waiting.write_together = write_together  # type: ignore[attr-defined]
    return waiting


def patiently(call: Callable[[], T], patience: Patience) -> T:
    """What ``call`` gives once the storage that it needs answers; a call that may be made twice."""
    result: T = _Call(call, patience)()
    return result


class _Call:
    """A method that is called again after a lost connection, unless ``find`` then finds what it was to come to."""

    def __init__(self, method: Callable[..., Any], patience: Patience, find: Callable[[], Any] | None = None) -> None:
        self.method, self.patience, self.find = method, patience, find

    def __call__(self, *given: Any, **named: Any) -> Any:
        with held():
            return self._patiently(*given, **named)

    def _patiently(self, *given: Any, **named: Any) -> Any:
        self.patience.check()
        first, pause, failed = time.monotonic(), _FIRST_PAUSE, False
        while True:
            began = time.monotonic()
            try:
                found = self.find() if failed and self.find is not None else None
                result = self.method(*given, **named) if found is None else found
            except KeyboardInterrupt:  # the storage has not answered since: see ``held``
                self.patience.seconds = 0.0
                self.patience.has_failed(ConnectionError())
                raise
            except Exception as reason:  # what is not a lost storage goes on
                if failed and isinstance(reason, UpdateFinishedTrialError):  # by the first time, which was only late
                    result = self.find() if self.find is not None else None
                    if result is not None:
                        return result
                if not is_lost(reason):
                    raise
                self.patience.has_failed(reason)
                if time.monotonic() - first >= self.patience.seconds or stop_asked():
                    raise
            else:
                self.patience.has_answered(time.monotonic() - began)
                return result
            failed = True
            _sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def is_lost(reason: BaseException) -> bool:
    """Whether a storage failed because its server does not answer, or has no room for a moment."""
    while isinstance(reason, StorageInternalError | StorageError) and reason.__cause__ is not None:
        reason = reason.__cause__
    if isinstance(reason, DBAPIError):
        if isinstance(reason.orig, sqlite3.Error) or _FOR_GOOD.search(str(reason.orig)):
            return False
        return isinstance(reason, OperationalError | InterfaceError) or reason.connection_invalidated
    # the first follows a lost connection
    if isinstance(reason, PendingRollbackError | ConnectionError | TimeoutError | socket.gaierror):
        return True
    grpc: Any = sys.modules.get("grpc")
    if grpc is None or not isinstance(reason, grpc.RpcError):
        return False
    return reason.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def _sleep(seconds: float) -> None:
    """In short pieces, as a signal is only kept, and to be heard."""
    until = time.monotonic() + seconds * random.uniform(0.5, 1.0)  # not all workers at once
    while not stop_asked() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))
