"""Trials whose process is gone: how a process signs its trials, its signs of life, and who has none any more."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.trial import TrialState

from ssdtune.study.interrupts import stop_asked
from ssdtune.study.large import storage_of, trial_id_of
from ssdtune.study.record import WORKER, origin_of

PROC = Path("/proc")
_UNSIGNED = timedelta(hours=27)  # Optuna's proxy sends times of its own zone: no two are further apart than 26 hours


def worker_name() -> str:
    """What a process signs its trials with: machine and process."""
    return f"{_machine()}-{os.getpid()}"


def release_lost_trials(study: optuna.Study) -> None:
    """Mark running trials whose process is gone as interrupted.

    A process of this machine is asked for directly; others are found by their signs of life, where the storage keeps
    them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_lost(origin_of(trial).get(WORKER, ""), trial.datetime_start):
            give_back(study, trial.number)


def give_back(study: optuna.Study, number: int) -> None:
    """Mark a trial that will not be finished as failed, unless another process has ended it, perhaps just now."""
    with suppress(UpdateFinishedTrialError):
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def heartbeat_interval(storage: BaseStorage) -> float | None:
    """Seconds between the signs of life of a trial, None where the storage keeps none."""
    interval: float | None = getattr(storage, "get_heartbeat_interval", lambda: None)()
    return interval


def sign_of_life(storage: BaseStorage, trial_id: int) -> None:
    """Record one of a running trial, where the storage keeps them."""
    if heartbeat_interval(storage) is not None:
        with suppress(optuna.exceptions.StorageInternalError):  # left out: the next one may be stored
            storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]


@contextmanager
def signs_of_life(study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
    """Record more signs of life of a running trial, from a thread: Optuna's own run only under ``Study.optimize``."""
    storage, trial_id = storage_of(study), trial_id_of(trial)
    interval = heartbeat_interval(storage)
    if interval is None:
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(interval):
            sign_of_life(storage, trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        while thread.is_alive() and not stop_asked():  # it may be waiting for an answer
            thread.join(0.2)


def _is_lost(worker: str, started: datetime | None) -> bool:
    machine, _, process = worker.rpartition("-")
    if not worker:  # stopped before it could sign
        return started is not None and datetime.now() - started > _UNSIGNED
    return machine == _machine() and not _is_alive(int(process))


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@cache
def _machine() -> str:
    """A short name of where a process number means one process: host, boot and namespace (a container has its own)."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append((PROC / "sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(str((PROC / "self/ns/pid").readlink()))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()
