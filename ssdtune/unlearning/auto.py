"""Auto: one budget over several methods, for those who want the model and not the comparison.

Successive halving (Jamieson & Talwalkar, AISTATS 2016; ``halving``) over methods, the cheap ones first. Every
method begins with its published settings; no learned prior enters.

The knobs of method m are named m.knob and only those of one method are searched in a trial, so a setting says which
method it is of, and Optuna sees a space that is conditional on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator

from ssdtune.progress import Track
from ssdtune.studyfile import Positive
from ssdtune.task import Task
from ssdtune.unlearning.halving import next_arm
from ssdtune.unlearning.method import (
    Analyse,
    BaseMethod,
    Choice,
    Knob,
    Options,
    Tried,
)
from ssdtune.unlearning.methods import Chosen, choose_method, uses_analysis
from ssdtune.unlearning.several import SeveralUnlearner, method_of


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


class Auto(BaseMethod):
    """The method."""

    name, summary = "auto", "Several methods, of which the better ones get more and more of the budget"
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

    def choose(self, options: AutoOptions, tried: Sequence[Tried], trials: int) -> Choice | None:
        inner = _inner(options)
        own = {name: [each for each in tried if method_of(each.setting) == name] for name in inner}
        name = next_arm(own, options.cost or trials, lambda each: each.cost if options.cost else 1.0)
        return None if name is None else _choice(name, inner[name], len(own[name]))

    def prepare(self, task: Task, options: AutoOptions, *, analyse: Analyse, track: Track) -> SeveralUnlearner:
        return SeveralUnlearner(task, _inner(options), analyse, track)


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
