"""A Ray cluster: being connected to it, what room it has, what is sent to it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ssdtune.errors import ConfigError, SsdtuneError
from ssdtune.progress import Say, unsaid
from ssdtune.study.interrupts import Terminated
from ssdtune.study.parcel import Parcel, pack
from ssdtune.study.record import package_versions

ROOM = 300.0
"""Seconds without any process of ours after which the cluster is taken to have no room."""

ANY = "auto"
"""The cluster that RAY_ADDRESS names, or that this machine is of, else one of this machine alone, made for the time."""

_LONG = 200  # characters of Ray's own words

_SAME = ("ssdtune", "torch", "numpy")  # versions that a machine must share with this one


@contextmanager
def cluster(address: str = ANY, say: Say = unsaid) -> Iterator[None]:
    """Be connected to a Ray cluster; nothing is done where this process is already. ``say`` is told when the wait for
    it begins, which takes up to half a minute.

    Raises ConfigError: Ray is not installed, or there is no cluster at this address.
    """
    try:
        import ray
    except ImportError as reason:
        todo = "pip install 'ssdtune[ray]', or leave --ray out"
        raise ConfigError("Ray is not installed", "--ray", todo) from reason
    if "://" in address:
        todo = "give HOST:PORT of the cluster's head, from one of its machines"
        raise ConfigError("Ray's client cannot be used", f"--ray {address}", todo)
    if address != ANY:
        _refuse_silent(address)
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = signal.getsignal(signal.SIGTERM)
    say("starting Ray ...")
    try:
        ray.init(None if address == ANY else address, log_to_driver=False, logging_level=logging.CRITICAL)
    except SystemExit as reason:  # of Ray's own handler of SIGTERM
        raise Terminated from reason
    except Exception as reason:  # of many kinds
        what = f"no Ray cluster ({' '.join(str(reason).split())[:_LONG] or type(reason).__name__})"
        raise ConfigError(what, f"--ray {address}", "give HOST:PORT of its head, or leave the address out") from reason
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own ends the process at once
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_silent(address: str) -> None:
    """Raise ConfigError where nothing answers, which Ray takes minutes to say."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (ValueError, OverflowError, OSError) as reason:
        todo = "give HOST:PORT of its head, or leave the address out"
        raise ConfigError(f"no Ray cluster ({reason})", f"--ray {address}", todo) from reason


@dataclass(frozen=True)
class Places:
    """Where a cluster has room for processes: one a GPU, or one for so many ``threads`` (cores)."""

    threads: int = 1
    gpus: bool = False

    @property
    def needs(self) -> dict[str, int]:
        """Of a process, as Ray has it."""
        return {"num_gpus": 1, "num_cpus": 0} if self.gpus else {"num_cpus": self.threads}

    @property
    def each(self) -> str:
        """What each has, in words."""
        return "each GPU" if self.gpus else f"{self.threads} CPUs" if self.threads > 1 else "each CPU"

    def number(self) -> int:
        """How many there are now, within ``cluster``. Raises ConfigError: none."""
        import ray

        kind, each = ("GPU", 1) if self.gpus else ("CPU", self.threads)
        alive = [node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]]
        size = sum(int(number // each) for number in alive)
        if not size:
            what = f"no machine of the cluster has {each} {kind}{'s' if each > 1 else ''}"
            raise ConfigError(what, "--ray", "give --device cpu" if self.gpus else "give fewer --threads")
        return size

    def settle(self) -> None:
        """Make the process that calls this one of them."""
        from ssdtune.device import keep_freed_memory, set_threads

        set_threads(self.threads)
        keep_freed_memory()


def sent(value: Any) -> Parcel:
    """What is sent once a machine. Raises ConfigError: it cannot be."""
    try:
        return pack(value)
    except Exception as reason:  # whatever the pickling of task and method raises
        what = f"task or method cannot be sent to other processes ({' '.join(str(reason).split())[:_LONG]})"
        raise ConfigError(what, "--ray", "leave --ray out") from reason


def next_result(answers: Iterable[Any], places: Places) -> tuple[Any, Any]:
    """The first of several tasks' answers that is there, and the result.

    Raises
    ------
    SsdtuneError : the task's own.
    ConfigError : there is no room left for it, or it died more often than Ray runs it again.
    """
    import ray

    answers = list(answers)
    while not (ready := ray.wait(answers, num_returns=1, timeout=ROOM)[0]):
        places.number()
    try:
        return ready[0], ray.get(ready[0])
    except ray.exceptions.RayTaskError as reason:
        if isinstance(reason.cause, SsdtuneError):
            raise reason.cause from reason
        raise
    except ray.exceptions.RayError as reason:
        what = f"a task died again and again ({last_line(reason)})"
        raise ConfigError(what, "--ray", "see Ray's logs, or leave --ray out") from reason


def last_line(reason: BaseException) -> str:
    """The line of Ray's long messages that says why; of a long line its first sentences."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    words = lines[-1] if lines else type(reason).__name__
    if len(words) <= _LONG:
        return words
    return words[:_LONG].rpartition(". ")[0] or words[:_LONG]


def check_versions(there: Mapping[str, str]) -> None:
    """Raise ConfigError unless a machine with these packages computes what this one does."""
    here = package_versions()
    differing = [name for name in _SAME if there.get(name) != here.get(name)]
    if differing:
        todo = "install the same on every machine of the cluster"
        words = ", ".join(f"{name} {there.get(name)} is not {here.get(name)}" for name in differing)
        raise ConfigError(f"a machine has other versions ({words})", "--ray", todo)
