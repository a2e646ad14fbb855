"""Loop or vectorised, and how many units at once: decided by timing the first chunks of the real work.

Every timed chunk is kept as a result, so measuring costs nothing but the slower chunks' own time.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal, NamedTuple

Method = Literal["auto", "vectorised", "loop"]

_FIRST, _LARGEST = 4, 256  # units in the first and in the largest vectorised chunk
_SLOW, _PROBE = 0.05, 2  # seconds a looped unit from which on so few are tried first: there vectorising seldom pays
_GROWTH = 4  # from one chunk to the next
_LOOP_ROWS = 16  # a loop hands over at most this many rows, and at least one a second
_GAIN = 0.95  # a larger chunk must take at most this share of the time per unit to be worth its memory
_VAIN = 2  # larger chunks without a gain before it stops growing
_HOPELESS = 1.1  # times slower than the loop: stop there, unless ...
_NOTHING = 0.05  # seconds or less a chunk: then it costs nothing to go on
_SET_UP = 2.0  # seconds or more a chunk: then its slowness is not the set-up's


class Step(NamedTuple):
    """What to do next: ``size`` units, vectorised or one by one."""

    vectorised: bool
    size: int


class Pace:
    """Chooses the next step from the times of those before.

    Call ``next_step``, do it, then ``record`` its time. ``seconds`` holds the best time per unit of either way.
    too_slow : seconds a looped unit from which on vectorising is not tried.
    """

    def __init__(self, method: Method = "auto", too_slow: float = float("inf")) -> None:
        self.seconds: dict[str, float] = {}
        self._too_slow = too_slow
        self.failure = ""  # why vectorising was given up
        self._trials = self._timetable(method)
        self._step = next(self._trials)

    def next_step(self, limit: int) -> Step:
        """The step to do; ``limit`` is how many units at once memory allows to vectorise (below 2: not at all)."""
        if self._step.vectorised and limit < 2:
            return Step(False, 1)
        return self._step._replace(size=min(self._step.size, limit)) if self._step.vectorised else self._step

    def record(self, step: Step, units: int, seconds: float) -> None:
        """Tell how long ``units`` of a step took; fewer units than the step's (end of a run) decide nothing."""
        name = "vectorised" if step.vectorised else "loop"
        each = seconds / units
        self.seconds[name] = min(each, self.seconds.get(name, each))
        if units == step.size and step.vectorised == self._step.vectorised:
            self._step = self._trials.send((each, step.size))

    def give_up(self, reason: str) -> None:
        """Vectorising does not work for this task; loop from here on."""
        self.failure = reason
        self._trials.close()
        self._trials = self._looping()
        self._step = next(self._trials)

    def _timetable(self, method: Method) -> Generator[Step, tuple[float, int], None]:
        # the first unit is always looped: it also shows what a unit needs in memory, and warms the libraries up
        yield Step(False, 1)
        if method == "loop":
            yield from self._looping()
        loop = float("inf")
        if method == "auto":
            for _ in range(2):
                loop = min(loop, (yield Step(False, 1))[0])
        if self._too_slow <= loop < float("inf"):
            yield from self._looping()
        size, best, choice, vain = _FIRST, float("inf"), _FIRST, 0
        if _SLOW <= loop < float("inf"):
            each, _ = yield from self._twice(_PROBE, loop)
            if each > _HOPELESS * loop:
                yield from self._looping()
        while size <= _LARGEST and vain < _VAIN:
            each, done = yield from self._twice(size, loop)
            vain = 0 if each < _GAIN * best else vain + 1
            if not vain:
                best, choice = each, size
            hopeless = best > _HOPELESS * loop and best * size > _NOTHING
            if done < size or hopeless:  # or memory allows no larger one
                break
            size *= _GROWTH
        if loop < best:
            yield from self._looping()
        while True:
            yield Step(True, choice)

    def _twice(self, size: int, loop: float) -> Generator[Step, tuple[float, int], tuple[float, int]]:
        """Time a vectorised chunk, again if it may have been slow for its set-up, which the first of a size pays."""
        each, done = yield Step(True, size)
        if each <= _HOPELESS * loop or each * size < _SET_UP:
            each = min(each, (yield Step(True, size))[0])
        return each, done

    def _looping(self) -> Generator[Step, tuple[float, int], None]:
        size = 1
        while True:
            each, _ = yield Step(False, size)
            size = max(1, min(_LOOP_ROWS, int(1 / max(each, 1e-9))))
