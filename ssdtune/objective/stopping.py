"""Whether a trial needs its remaining slices: a bound on its score against the best so far, after every look.

The best so far is the best feasible trial, or the untouched model where that is better. Looks come after 8 slices a
set and then after half as many more each time. At each, the means of the retain and the forget set are estimated
(``estimate``) with the untouched model and the best trial as controls, which makes the comparison a paired one. The
trial stops where even the favourable end of its interval is not good enough. A one-sided level of 1e-3 a look keeps the
chance to lose a true best under 1 % over all looks (``benchmarks/trial_cost.py``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ssdtune.objective.estimate import Estimate, estimate_mean
from ssdtune.objective.evaluator import Measured
from ssdtune.objective.score import Score, ScoreRule

FIRST_LOOK, GROWTH = 8, 1.5
LEVEL = 1 - 1e-3
RETAIN, FORGET = "retain", "forget"

Reason = Literal["infeasible", "worse"]


@dataclass(frozen=True)
class Standing:
    """The one to beat: the best feasible trial so far, fully evaluated, or the untouched model, feasible too.

    columns : by set, (n,) a trial's qualities in scoring order, where known. label : which it is.
    """

    score: Score
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    label: Hashable = None

    def beaten_by(self, other: Score) -> bool:
        """Whether ``other`` is feasible and has the higher score."""
        return other.feasible and other.value > self.score.value


@dataclass(frozen=True)
class Verdict:
    """What a look found: the estimates of both sets, and why the trial can stop (None: it cannot)."""

    retain: Estimate
    forget: Estimate
    reason: Reason | None


def look(
    found: Measured,
    controls: dict[str, np.ndarray],
    rule: ScoreRule,
    best: Standing,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Verdict:
    """Judge a trial from the slices measured so far.

    controls : by set, (k, N) in scoring order. shift : added to the means of retain and forget quality.
    """
    retain, forget = (
        replace(estimate, mean=estimate.mean + moved)
        for name, moved in zip((RETAIN, FORGET), shift, strict=True)
        for estimate in [estimate_mean(found.quality(name), controls[name], slice(0, found.done[name]))]
    )
    return Verdict(retain, forget, stop_reason(retain, forget, rule, best.score))


def stop_reason(
    retain: Estimate, forget: Estimate, rule: ScoreRule, best: Score, level: float = LEVEL
) -> Reason | None:
    """Why a trial with these estimates is clearly not better than ``best``, which is feasible; None where it may be."""
    if not rule(retain.mean + _finite(retain.half_width(level)), forget.mean).feasible:
        return "infeasible"
    return "worse" if _highest(retain, forget, rule, level) < best.value else None


def _highest(retain: Estimate, forget: Estimate, rule: ScoreRule, level: float) -> float:
    """Upper bound of the score: gains of both sets add as independent errors do, each clipped as the score is."""
    here = rule(retain.mean, forget.mean).value
    gains = (
        rule(retain.mean + _finite(retain.half_width(level)), forget.mean).value - here,
        rule(retain.mean, forget.mean - _finite(forget.half_width(level))).value - here,
    )
    return here + math.hypot(*gains)


def next_look(found: Measured, verdict: Verdict, rule: ScoreRule) -> dict[str, int]:
    """How far each set is measured for the next look: half as many slices again, where they help to decide."""
    retain, forget = verdict.retain, verdict.forget
    here = rule(retain.mean, forget.mean)
    widths = {
        RETAIN: rule(retain.mean + _finite(retain.half_width(LEVEL)), forget.mean).value
        - rule(retain.mean - _finite(retain.half_width(LEVEL)), forget.mean).value,
        FORGET: rule(retain.mean, forget.mean - _finite(forget.half_width(LEVEL))).value
        - rule(retain.mean, forget.mean + _finite(forget.half_width(LEVEL))).value,
    }
    at_the_bound = abs(here.violation) < _finite(retain.half_width(LEVEL)) / rule.q_retain
    targets = {}
    for name, estimate, other in ((RETAIN, retain, FORGET), (FORGET, forget, RETAIN)):
        decisive = widths[name] > widths[other] / 3 or (name == RETAIN and at_the_bound)
        if decisive and found.done[name] < estimate.total:
            targets[name] = min(math.ceil(found.done[name] * GROWTH), estimate.total)
    if targets:
        return targets
    return {
        name: min(math.ceil(found.done[name] * GROWTH), estimate.total)
        for name, estimate in ((RETAIN, retain), (FORGET, forget))
    }


def _finite(width: float) -> float:
    """A width of few slices may be unbounded; no quality is further away than this."""
    return min(width, 1e3)
