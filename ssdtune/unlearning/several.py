"""Several methods as one: a setting says which of them it is of, since the knobs of method m are named m.knob."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import cache

from ssdtune.progress import Track
from ssdtune.task import Task
from ssdtune.unlearning.method import (
    UNTOUCHED,
    Analyse,
    BaseUnlearner,
    Setting,
    Stage,
    Unlearner,
    analysis_passes,
)
from ssdtune.unlearning.methods import Chosen


class SeveralUnlearner(BaseUnlearner):
    """The methods on one task, each made ready when its first trial comes, which is billed for that; the analysis that
    some share is billed to the first of them."""

    def __init__(self, task: Task, chosen: Mapping[str, Chosen], analyse: Analyse, track: Track) -> None:
        self._task, self._chosen, self._track = task, chosen, track
        self._analyse = cache(analyse)
        self._ready: dict[str, Unlearner] = {}
        self._billed: set[str] = set()
        self._analysed = False

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        name, unlearner, own = self._of(setting)
        once = 0.0 if name in self._billed else unlearner.preparation
        if once and unlearner.analysis is not None:
            once -= analysis_passes(self._task, unlearner.analysis) if self._analysed else 0.0
            self._analysed = True
        self._billed.add(name)
        for stage in unlearner(own, seed):
            yield Stage(stage.params, stage.cost + once)

    def effect(self, setting: Setting) -> Hashable:
        name, unlearner, own = self._of(setting)
        effect = unlearner.effect(own)
        return UNTOUCHED if effect == UNTOUCHED else (name, effect)

    def notes(self, setting: Setting) -> dict[str, float]:
        _, unlearner, own = self._of(setting)
        return dict(unlearner.notes(own))

    def _of(self, setting: Setting) -> tuple[str, Unlearner, Setting]:
        """(the method's name, the method made ready, its own setting)"""
        name = method_of(setting)
        if name not in self._ready:
            chosen = self._chosen[name]
            self._ready[name] = chosen.method.prepare(
                self._task, chosen.options, analyse=self._analyse, track=self._track
            )
        own = {knob.removeprefix(f"{name}."): value for knob, value in setting.items() if knob.startswith(f"{name}.")}
        return name, self._ready[name], own


def method_of(setting: Setting) -> str:
    """The method that a setting is of; empty for none."""
    return next(iter(setting), "").rpartition(".")[0]
