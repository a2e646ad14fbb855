"""Priors over a method's knobs that mean harm, as ``adversarial`` makes them over SSD's plane.

Each is what networks foresee of a task of another family, told of this task's settings from the nearest of that one's.

wrong-task : of a task drawn by name.
shifted : the same a decade away on the method's first knob, up or down as drawn.
worst-of-ten : of ten tasks, the one whose first choice has the largest regret here.
inverted : the task's own, but within the band foreseen as feasible what is remembered is turned round between its least
and its most there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.competition.adversarial import KINDS, OTHERS
from ssdtune.arrays import Array
from ssdtune.knob import Knob
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief


class Named(NamedTuple):
    """One task: s of its settings (n,), that of the untouched model where infeasible, and what is foreseen of it."""

    key: str
    family: str
    s: Array
    foreseen: Foreseen


def wrong_priors(tasks: Sequence[Named], goal: Goal, decade: float) -> dict[str, list[Foreseen]]:
    """``{kind: of every task}`` for a goal. ``decade`` : of the first knob, as a share of its range."""
    found: dict[str, list[Foreseen]] = {kind: [] for kind in KINDS}
    for task in tasks:
        strangers = [other for other in tasks if other.family != task.family]
        rng = np.random.default_rng(list(task.key.encode()))
        chosen = rng.choice(len(strangers), min(OTHERS, len(strangers)), replace=False)
        told = [told_of(strangers[i].foreseen, task.foreseen.places) for i in chosen]
        up = 1 if rng.random() < 0.5 else -1
        found["wrong-task"].append(told[0])
        found["shifted"].append(told_of(strangers[chosen[0]].foreseen, task.foreseen.places, up * decade))
        found["worst-of-ten"].append(min(told, key=lambda each: task.s[first_choice(each, goal)]))
        found["inverted"].append(inverted(task.foreseen, goal))
    return found


def decade_of(knob: Knob) -> float:
    """A factor of ten as a share of a knob's range, which is on a log scale."""
    return 1 / math.log10(knob.high / knob.low)


def told_of(other: Foreseen, places: Array, shift: float = 0.0) -> Foreseen:
    """Another task's outlook at places (n, D), moved so far along the first knob."""
    moved = places.copy()
    moved[:, 0] -= shift
    return Foreseen(places, *other.at(moved), other.trust)


def first_choice(foreseen: Foreseen, goal: Goal) -> int:
    """The number of the place that a search with this outlook tries first."""
    return int(KnobBelief(foreseen, goal).improvement(foreseen.places).argmax())


def inverted(foreseen: Foreseen, goal: Goal) -> Foreseen:
    """What is remembered, turned round within the band that the mean member holds feasible."""
    band = goal.feasible(foreseen.members[:, 0].mean(axis=0))
    if not band.any():
        return foreseen
    members = foreseen.members.copy()
    within = members[:, 1][:, band]
    members[:, 1, band] = within.min() + within.max() - within
    return foreseen._replace(members=members)
