"""A method that takes a known time: for measuring everything around a trial."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ssdtune.unlearning.method import BaseMethod, BaseUnlearner, Knob, Options, Setting, Stage
from ssdtune.unlearning.methods import METHODS

if TYPE_CHECKING:
    from ssdtune.task import Task

NAME = "sleep"


class SleepOptions(Options):
    seconds: float = 0.0


class SleepingUnlearner(BaseUnlearner):
    """Sleeps, then scales the parameters by a way from 1 that is longest at x = y = 1."""

    def __init__(self, task: Task, options: SleepOptions) -> None:
        self.params, self.seconds = task.params, options.seconds

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        time.sleep(self.seconds)
        factor = 1 - 0.4 * setting["x"] * setting["y"]
        yield Stage({name: value * factor for name, value in self.params.items()})


class Sleep(BaseMethod):
    name, summary, sampler, Options = NAME, "Sleeps.", "random", SleepOptions

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return tuple(Knob(name, 0.0, 1.0, "linear") for name in ("x", "y"))

    def prepare(self, task: Task, options: SleepOptions, **_: Any) -> SleepingUnlearner:
        return SleepingUnlearner(task, options)


def install() -> None:
    """Let studies of this process, and of those forked from it, name the method."""
    METHODS[NAME] = "benchmarks.service.sleeping:Sleep"
