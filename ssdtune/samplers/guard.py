"""What bounds the cost of a wrong prior: turns for the same search without it, which sees its own trials alone.

Its n-th turn is trial floor(1.5 n + 2) of the study: 3, 5, 6, 8, 9, 11, ... So what the search without prior finds in n
trials has been found by then, whatever the prior says; the search with it has the other trials and sees them all.
This is exact where trials follow one another, none is stopped early, none is enqueued once they have begun or added by
hand, none fails but by an interruption, marked as failed and not of the same setting twice, and nothing is left to the
independent sampler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

RATIO, GRACE = 1.5, 2
"""At most so many times the trials of the search without prior, and so many more."""


def is_unled(place: int) -> bool:
    """Whether the trial before which ``place`` others were proposed is a turn of the search without prior."""
    turn = math.ceil((place + 1 - GRACE) / RATIO)
    return turn > 0 and math.floor(RATIO * turn + GRACE) == place + 1


def is_given(trial: FrozenTrial) -> bool:
    """Whether the trial's setting was enqueued, by a user or as a step of a longer training: no turn of a search."""
    return "fixed_params" in trial.system_attrs


def unled(others: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial] | None:
    """What the search without prior sees of the other trials, in order; None where the trial is none of its turns.

    A failed trial gives its place back to those that start after it, but not where the same had failed before: a search
    whose settings fail loses its turns. A setting that was enqueued is no turn of either search, and both see it; what
    it lacks is chosen without prior.
    """
    trials = sorted([*others, trial], key=lambda found: found.number)
    lost = _lost(trials)
    turns, seen, ours = 0, [], False
    for each in trials:
        given = is_given(each)
        place = turns - sum(failed.number < each.number and _ended(failed) <= _started(each) for failed in lost)
        if each.number == trial.number:
            ours = given or is_unled(place)
        elif given or is_unled(place):
            seen.append(each)
        turns += not given
    return seen if ours else None


def _lost(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The failed trials that give their places back."""
    lost: list[FrozenTrial] = []
    settings: list[dict[str, Any]] = []
    for each in sorted((each for each in trials if each.state == TrialState.FAIL and not is_given(each)), key=_ended):
        if not each.params or each.params not in settings:
            settings.append(each.params)
            lost.append(each)
    return lost


def _started(trial: FrozenTrial) -> datetime:
    return trial.datetime_start or datetime.max


def _ended(trial: FrozenTrial) -> datetime:
    return trial.datetime_complete or datetime.max
