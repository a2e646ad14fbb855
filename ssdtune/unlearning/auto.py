"""Auto: one budget over several methods, for those who want the model and not the comparison.

Successive halving (Jamieson & Talwalkar, AISTATS 2016) over M methods, the cheap ones first, in R = ceil(log2 M) + 1
rungs. In each rung the methods that are left may spend equal parts of a share 1 / R of the budget; then the better half
of them, by the best trial of each so far, goes on. Every method begins with its published settings; no learned prior
enters.

The knobs of method m are named m.knob and only those of one method are searched in a trial, so a setting says which
method it is of, and Optuna sees a space that is conditional on it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated

from pydantic import AfterValidator

from ssdtune.progress import Track
from ssdtune.studyfile import Positive
from ssdtune.task import Task
from ssdtune.unlearning.method import (
    UNTOUCHED,
    Analyse,
    Choice,
    Knob,
    Options,
    PriorRequest,
    Setting,
    Stage,
    Tried,
    Unlearner,
    analysis_passes,
)
from ssdtune.unlearning.methods import Chosen, choose_method, uses_analysis


def _several(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names as they are; raises ValueError unless there are two or more, each once, and none is this method's."""
    if len(set(names)) < 2 or len(set(names)) < len(names) or Auto.name in names:
        raise ValueError("name two or more other methods, each once")
    return names


class AutoOptions(Options):
    """methods : what is chosen from, in their default options. cost : slice passes of the whole search, what methods do
    once included; None: every trial counts the same, and the budget is the study's trials. Either ends the search.
    """

    methods: Annotated[tuple[str, ...], AfterValidator(_several)] = ("spectral", "ft", "ssd-repair", "ng")
    cost: Positive | None = None


class Auto:
    """The method."""

    name, summary, sampler = "auto", "Several methods, of which the better ones get more and more of the budget", "tpe"
    Options = AutoOptions

    def needs(self, task: Task, options: AutoOptions) -> str | None:
        for name, chosen in _inner(options).items():
            lacking = chosen.method.needs(task, chosen.options)
            if lacking is not None:
                return f"{lacking}, for {name}"
        return None

    def knobs(self, options: AutoOptions) -> tuple[Knob, ...]:
        """Those of all methods, by METHOD.KNOB; raises ValueError for a method that has none."""
        knobs = {name: _knobs(name, chosen) for name, chosen in _inner(options).items()}
        for name, own in knobs.items():
            if not own:
                raise ValueError(f"methods: '{name}' has no knob, so that no trial would say that it is of it")
        return tuple(knob for own in knobs.values() for knob in own)

    def uses_analysis(self, options: AutoOptions) -> bool:
        return any(map(uses_analysis, _inner(options).values()))

    def published(self, options: AutoOptions) -> list[dict[str, float]]:
        return []  # each trial is chosen from those before it

    def choose(self, options: AutoOptions, tried: Sequence[Tried], trials: int) -> Choice | None:
        def spent(some: Sequence[Tried]) -> float:
            return sum(each.cost for each in some) if options.cost else len(some)

        total, inner = options.cost or trials, _inner(options)
        own = {name: [each for each in tried if method_of(each.setting) == name] for name in inner}
        if spent(tried) >= total:
            return None
        left, allowed, rungs = list(inner), 0.0, math.ceil(math.log2(len(inner))) + 1
        for _ in range(rungs):
            allowed += total / rungs / len(left)
            for name in left:
                if not own[name] or spent(own[name]) < allowed * (1 - 1e-9):
                    return _choice(name, inner[name], len(own[name]))
            # stable: of equals the cheap ones go on
            left.sort(key=lambda name: max(each.rank for each in own[name]), reverse=True)
            left = left[: math.ceil(len(left) / 2)]
        return None

    def prepare(self, task: Task, options: AutoOptions, *, analyse: Analyse, track: Track) -> AutoUnlearner:
        return AutoUnlearner(task, options, analyse, track)


class AutoUnlearner:
    """The methods on one task, each made ready when its first trial comes, which is billed for that; the analysis that
    some share is billed to the first of them."""

    analysis = None
    preparation = 0.0

    def __init__(self, task: Task, options: AutoOptions, analyse: Analyse, track: Track) -> None:
        self._task, self._chosen, self._track = task, _inner(options), track
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

    def prior(self, request: PriorRequest) -> None:
        return None

    def view(self) -> None:
        return None

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


def _inner(options: AutoOptions) -> dict[str, Chosen]:
    return {name: choose_method({"name": name, "seed": options.seed}, "method.methods") for name in options.methods}


def _knobs(name: str, chosen: Chosen) -> tuple[Knob, ...]:
    return tuple(replace(knob, name=f"{name}.{knob.name}") for knob in chosen.method.knobs(chosen.options))


def _choice(name: str, chosen: Chosen, place: int) -> Choice:
    """The method's trial number ``place``: a published setting, or one that is searched."""
    knobs, published = _knobs(name, chosen), chosen.method.published(chosen.options)
    if place >= len(published):
        return Choice(knobs)
    return Choice(knobs, {knob.name: knob.clip(published[place][knob.name.rpartition(".")[2]]) for knob in knobs})
