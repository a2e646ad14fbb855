"""A study's trials on a Ray cluster: actors hold the prepared task and measure, this process asks and tells.

What they hold is sent once a machine (``study.parcel``). An actor that dies, or its machine, costs the trial that it
was measuring, which another one measures again under the same number; a new actor starts where there is room.
"""

from __future__ import annotations

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
from ssdtune.study.cluster import ROOM, Places, check_versions, last_line, sent
from ssdtune.study.parcel import Parcel, unpack
from ssdtune.study.pool import Measure
from ssdtune.study.record import package_versions
from ssdtune.unlearning.method import Setting

DEATHS = 3
"""Actors that one trial may cost, and actors in a row that may die as they start, before that is an error."""

ONE_A_CORE = Places()


@contextmanager
def actor_pool(measure: Measure, places: Places = ONE_A_CORE, *, say: Say = lambda words: None) -> Iterator[ActorPool]:
    """As many actors as the cluster has room for, gone afterwards. Within ``cluster.cluster``.

    ``say`` is told of actors that die.

    Raises
    ------
    ConfigError : there is room for none, ``measure`` cannot be sent, or a machine of the cluster cannot use it.
    """
    size = places.number()
    pool = ActorPool(sent(measure), size, places, say)
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

    def __init__(self, parcel: Parcel, size: int, places: Places, say: Say) -> None:
        import ray

        self._ray, self._say, self._places, self.size = ray, say, places, size
        self._parcel = ray.put(parcel)
        self._kind = ray.remote(_Actor).options(**places.needs, max_restarts=0)
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
        """The next outcome there is; raises ConfigError where the cluster has had no room for long."""
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
        actor = self._kind.remote(self._places, self._parcel)
        self._starting[actor.versions.remote()] = actor

    def _started(self, answer: Any) -> None:
        actor = self._starting.pop(answer)
        try:
            there = self._ray.get(answer)
        except self._ray.exceptions.RayError as reason:
            self._failed += 1
            if self._failed >= DEATHS:
                raise ConfigError(f"actors do not start ({last_line(reason)})", "--ray", "see Ray's logs") from reason
            self._end(actor)
            self._start()
            return
        check_versions(there)
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
                return call.number, RuntimeError(f"{DEATHS} actors died of it, {last_line(reason)}")
            self._say(f"an actor died with trial {call.number}, which runs again ({last_line(reason)})")
            self._waiting.appendleft(call)
            return None
        self._idle.append(actor)
        return call.number, found

    def _end(self, actor: Any) -> None:
        with suppress(Exception):  # it is gone already, or its machine
            self._ray.kill(actor)


class _Actor:
    """A process of the cluster that measures."""

    def __init__(self, places: Places, parcel: Parcel) -> None:
        places.settle()
        self._measure: Measure = unpack(parcel)

    def versions(self) -> dict[str, str]:
        """Of packages; an answer says that it is ready."""
        return package_versions()

    def measure(self, setting: Setting, incumbent: Incumbent, seed: int) -> Outcome:
        return self._measure(setting, incumbent, seed)
