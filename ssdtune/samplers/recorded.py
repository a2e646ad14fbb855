"""What a trial has recorded: in one user attribute as it begins and in one as it ends, as each is a commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

MEASURES = "measures"
"""The user attribute that holds score, measures, seconds and slices of a finished trial, by name."""

ORIGIN = "origin"
"""The user attribute that says who runs a trial and what seeds it, by name; older studies have one for each."""

WORKER, SEED_NUMBER = "worker", "seed_number"

NON_FINITE, STOPPED, REUSED, EXACT, PRECISION = "non_finite", "stopped", "reused_from", "exact", "precision"


def recorded(trial: FrozenTrial) -> dict[str, Any]:
    """Everything recorded of a trial by name, flat, as plain JSON values."""
    return flat(trial.user_attrs)


def flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """User attributes of a trial with the measures and the origin among them."""
    others = {name: value for name, value in attributes.items() if name not in (MEASURES, ORIGIN)}
    return {**attributes.get(MEASURES, {}), **attributes.get(ORIGIN, {}), **others}


def origin(trial: FrozenTrial) -> Mapping[str, Any]:
    """Who runs a trial and what seeds it, as far as it has recorded that."""
    return trial.user_attrs.get(ORIGIN, trial.user_attrs)
