"""Whether a trial needs its remaining slices: bounds of its score against the incumbent's, after every look.

Looks come after 8 slices a set and then after half as many more each time. At each, the means of the retain and the
forget set are estimated (``estimate``) with the untouched model and the incumbent as controls, which makes the
comparison a paired one. The trial stops where even the highest retain and the least forget quality are not good enough.

How many looks a set can have is known beforehand, so its error, half of ``ERROR``, is spent on them in equal parts. But
for that chance all bounds of both sets hold at all looks, and while they hold neither reason can be wrong: the score
rises with retain quality and falls with forget quality.
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
RETAIN, FORGET = "retain", "forget"
ERROR = 0.01
"""The chance to stop a trial that is feasible and better than the incumbent, over all looks and both reasons."""
STOPPED_SE = 1.5
"""Standard errors of a stopped trial are reported larger by this factor: it stopped where it looked worst, and few
slices say little of their own spread. Ordinary 95 % intervals of them then cover (``benchmarks.stopping``)."""

Reason = Literal["infeasible", "worse"]


@dataclass(frozen=True)
class Incumbent:
    """The best feasible trial so far, fully evaluated, or the untouched model, feasible too.

    columns : by set, (n,) a trial's qualities in scoring order, where known. label : which it is.
    """

    score: Score
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    label: Hashable = None

    def beaten_by(self, other: Score) -> bool:
        """Whether ``other`` is feasible and has the higher score."""
        return other.feasible and other.value > self.score.value


def decide(
    found: Measured,
    controls: dict[str, np.ndarray],
    rule: ScoreRule,
    best: Score,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Reason | None:
    """Measure a trial until it is clearly not better than ``best``, which is feasible, and say why; None where both
    sets are complete or an output is not finite.

    controls : by set, (k, N) in scoring order. shift : added to the means of retain and forget quality.
    """
    targets = dict.fromkeys((RETAIN, FORGET), FIRST_LOOK)
    while True:
        for name, stop in targets.items():
            found.extend(name, stop)
        if found.broken:
            return None
        retain, forget = (
            replace(estimate, mean=estimate.mean + moved)
            for name, moved in zip((RETAIN, FORGET), shift, strict=True)
            for estimate in [estimate_mean(found.quality(name), controls[name], slice(0, found.done[name]))]
        )
        targets = next_look(retain, forget, rule)
        if not targets:
            return None
        reason = stop_reason(retain, forget, rule, best)
        if reason is not None:
            return reason


def stop_reason(retain: Estimate, forget: Estimate, rule: ScoreRule, best: Score) -> Reason | None:
    """Why a trial with these estimates is clearly not better than ``best``, which is feasible; None where it may be."""
    highest = rule(_bounds(retain)[1], _bounds(forget)[0])
    if not highest.feasible:
        return "infeasible"
    return "worse" if highest.value < best.value else None


def next_look(retain: Estimate, forget: Estimate, rule: ScoreRule) -> dict[str, int]:
    """How far each set is measured for the next look: half as many slices again, where they help to decide. Empty when
    both are complete."""
    (least_kept, most_kept), (least_left, most_left) = _bounds(retain), _bounds(forget)
    widths = {
        RETAIN: rule(most_kept, forget.mean).value - rule(least_kept, forget.mean).value,
        FORGET: rule(retain.mean, least_left).value - rule(retain.mean, most_left).value,
    }
    at_the_bound = rule(least_kept, forget.mean).violation > 0 >= rule(most_kept, forget.mean).violation
    left = {name: e for name, e in ((RETAIN, retain), (FORGET, forget)) if e.seen < e.total}
    decisive = [n for n in left if widths[n] > max(widths.values()) / 3 or (n == RETAIN and at_the_bound)]
    return {name: min(math.ceil(left[name].seen * GROWTH), left[name].total) for name in decisive or left}


def looks(total: int) -> int:
    """How often at most a set of so many slices is looked at before it is complete."""
    seen, number = FIRST_LOOK, 0
    while seen < total:
        seen, number = math.ceil(seen * GROWTH), number + 1
    return number


def _bounds(estimate: Estimate) -> tuple[float, float]:
    """Least and highest mean of a set, each as sure as one look has to be; no quality is further away than 1e3."""
    level = 1 - ERROR / 2 / max(1, looks(estimate.total))
    return estimate.mean - min(estimate.below(level), 1e3), estimate.mean + min(estimate.above(level), 1e3)
