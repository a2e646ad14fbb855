"""Where a study's trials are measured: here, one after the other, or several at once (``study.actors``)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from ssdtune.objective.outcome import Outcome
from ssdtune.objective.stopping import Incumbent
from ssdtune.study import interrupts
from ssdtune.unlearning.method import Setting

Measure = Callable[[Setting, Incumbent, int], Outcome]
"""What a setting comes to, judged against the incumbent, with a seed."""


class Pool(Protocol):
    """Measures the settings of trials, which it knows by number."""

    @property
    def free(self) -> bool:
        """Whether it can take one more."""

    def submit(self, number: int, setting: Setting, incumbent: Incumbent, seed: int) -> None:
        """Take the setting of a trial."""

    def wait(self) -> tuple[int, Outcome | Exception]:
        """The next of those taken that is measured, or what it failed with. A signal interrupts this at once."""


OpenPool = Callable[[Measure], AbstractContextManager[Pool]]
"""Makes a pool for one study, and ends it."""


class OneByOne:
    """Measures here."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._taken: tuple[int, Setting, Incumbent, int] | None = None

    @property
    def free(self) -> bool:
        return self._taken is None

    def submit(self, number: int, setting: Setting, incumbent: Incumbent, seed: int) -> None:
        self._taken = number, setting, incumbent, seed

    def wait(self) -> tuple[int, Outcome | Exception]:
        assert self._taken is not None
        number, setting, incumbent, seed = self._taken
        self._taken = None
        try:
            with interrupts.welcome():
                return number, self._measure(setting, incumbent, seed)
        except Exception as reason:  # handed to the loop, which raises it in its place
            return number, reason
