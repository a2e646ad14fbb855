"""A study's trials on a Ray cluster: actors hold the prepared task and measure, this process asks and tells.

What they hold is sent once a machine (``study.parcel``). An actor that dies, or its machine, costs the trial that it
was measuring, which another one measures again under the same number; a new actor starts where there is room.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ssdtune.errors import ConfigError
from ssdtune.objective.evaluator import Say
from ssdtune.objective.outcome import Outcome
from ssdtune.objective.stopping import Incumbent
from ssdtune.study import interrupts
from ssdtune.study.parcel import Parcel, pack, unpack
from ssdtune.study.pool import Measure
from ssdtune.study.record import package_versions
from ssdtune.unlearning.method import Setting

DEATHS = 3
"""Actors that one trial may cost, and actors in a row that may die as they start, before that is an error."""

ROOM = 300.0
"""Seconds without any actor after which the cluster is taken to have no room."""

ANY = "auto"
"""The cluster that RAY_ADDRESS names, or that this machine is of, else one of this machine alone, made for the time."""

_SAME = ("ssdtune", "torch", "numpy")  # versions that a machine must share with this one


@contextmanager
def cluster(address: str = ANY) -> Iterator[None]:
    """Be connected to a Ray cluster; nothing is done where this process is already.

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
    try:
        ray.init(None if address == ANY else address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as reason:  # of many kinds
        what = f"no Ray cluster ({' '.join(str(reason).split())[:200] or type(reason).__name__})"
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


@contextmanager
def actor_pool(
    measure: Measure, *, threads: int = 1, gpus: bool = False, say: Say = lambda words: None
) -> Iterator[ActorPool]:
    """As many actors as the cluster has room for, gone afterwards: one a GPU, or one for so many ``threads`` (cores).

    Within ``cluster``. ``say`` is told of actors that die.

    Raises
    ------
    ConfigError : there is room for none, ``measure`` cannot be sent, or a machine of the cluster cannot use it.
    """
    import ray

    kind, each = ("GPU", 1) if gpus else ("CPU", threads)
    alive = [node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]]
    size = sum(int(number // each) for number in alive)
    if not size:
        what = f"no machine of the cluster has {each} {kind}{'s' if each > 1 else ''}"
        raise ConfigError(what, "--ray", "give --device cpu" if gpus else "give fewer --threads")
    try:
        parcel = pack(measure)
    except Exception as reason:  # whatever the pickling of task and method raises
        what = f"task or method cannot be sent to other processes ({' '.join(str(reason).split())[:200]})"
        raise ConfigError(what, "--ray", "leave --ray out") from reason
    say(f"ray: {size} actor{'s' if size > 1 else ''}, one for {f'{each} {kind}s' if each > 1 else f'each {kind}'}")
    pool = ActorPool(parcel, size, threads, gpus, say)
    try:
        yield pool
    finally:
        pool.close()


@dataclass
class _Call:
    """A trial's setting, and how many actors it has cost."""

    number: int
    given: tuple[Setting, Incumbent, int]
    deaths: int = 0


class ActorPool:
    """``size`` actors that measure; see ``study.pool.Pool``."""

    def __init__(self, parcel: Parcel, size: int, threads: int, gpus: bool, say: Say) -> None:
        import ray

        self._ray, self._say, self._threads, self.size = ray, say, threads, size
        self._parcel = ray.put(parcel)
        needs = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": threads}
        self._kind = ray.remote(_Actor).options(**needs, max_restarts=0)
        self._waiting: deque[_Call] = deque()
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}  # actors by what they will answer, so too the busy ones
        self._busy: dict[Any, tuple[Any, _Call]] = {}
        self._failed = 0  # starts in a row
        for _ in range(size):
            self._start()

    @property
    def free(self) -> bool:
        return len(self._waiting) + len(self._busy) < self.size

    def submit(self, number: int, setting: Setting, incumbent: Incumbent, seed: int) -> None:
        self._waiting.append(_Call(number, (setting, incumbent, seed)))
        self._hand_out()

    def wait(self) -> tuple[int, Outcome | Exception]:
        while True:
            with interrupts.welcome():
                ready, _ = self._ray.wait([*self._busy, *self._starting], num_returns=1, timeout=ROOM)
            found = None
            if ready and ready[0] in self._busy:
                found = self._answered(ready[0])
            elif ready:
                self._started(ready[0])
            elif not self._busy:
                what = f"no machine of the cluster had room for an actor in {ROOM / 60:.0f} minutes"
                raise ConfigError(what, "--ray", "finished trials are kept; add machines and run again")
            self._hand_out()
            if found is not None:
                return found

    def close(self) -> None:
        """End all actors, whatever they are at."""
        for actor in [*self._idle, *self._starting.values(), *(actor for actor, _ in self._busy.values())]:
            self._end(actor)

    def _start(self) -> None:
        actor = self._kind.remote(self._threads, self._parcel)
        self._starting[actor.versions.remote()] = actor

    def _started(self, answer: Any) -> None:
        actor = self._starting.pop(answer)
        try:
            there = self._ray.get(answer)
        except self._ray.exceptions.RayError as reason:
            self._failed += 1
            if self._failed >= DEATHS:
                raise ConfigError(f"actors do not start ({_last_line(reason)})", "--ray", "see Ray's logs") from reason
            self._end(actor)
            self._start()
            return
        here = package_versions()
        differing = [name for name in _SAME if there.get(name) != here.get(name)]
        if differing:
            todo = "install the same on every machine of the cluster"
            words = ", ".join(f"{name} {there.get(name)} is not {here.get(name)}" for name in differing)
            raise ConfigError(f"a machine has other versions ({words})", "--ray", todo)
        self._failed = 0
        self._idle.append(actor)

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            actor, call = self._idle.pop(), self._waiting.popleft()
            self._busy[actor.measure.remote(*call.given)] = actor, call

    def _answered(self, answer: Any) -> tuple[int, Outcome | Exception] | None:
        """Trial and outcome, or what its measuring raised; None where its actor is gone and it runs again."""
        actor, call = self._busy.pop(answer)
        try:
            found = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as reason:
            self._idle.append(actor)
            return call.number, reason.cause if isinstance(reason.cause, Exception) else reason
        except self._ray.exceptions.RayError as reason:
            self._end(actor)
            self._start()
            call.deaths += 1
            if call.deaths == DEATHS:
                return call.number, RuntimeError(f"{DEATHS} actors died of it, {_last_line(reason)}")
            self._say(f"an actor died with trial {call.number}, which runs again ({_last_line(reason)})")
            self._waiting.appendleft(call)
            return None
        self._idle.append(actor)
        return call.number, found

    def _end(self, actor: Any) -> None:
        with suppress(Exception):  # it is gone already, or its machine
            self._ray.kill(actor)


class _Actor:
    """A process of the cluster that measures."""

    def __init__(self, threads: int, parcel: Parcel) -> None:
        from ssdtune.device import keep_freed_memory, set_threads

        set_threads(threads)
        keep_freed_memory()
        self._measure: Measure = unpack(parcel)

    def versions(self) -> dict[str, str]:
        """Of packages; an answer says that it is ready."""
        return package_versions()

    def measure(self, setting: Setting, incumbent: Incumbent, seed: int) -> Outcome:
        return self._measure(setting, incumbent, seed)


def _last_line(reason: BaseException) -> str:
    """The line of Ray's long messages that says why."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return (lines[-1] if lines else type(reason).__name__)[:200]
