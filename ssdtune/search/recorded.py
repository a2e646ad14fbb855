"""What a trial has recorded: everything measured in one user attribute, as each is a commit to the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

MEASURES = "measures"
"""The user attribute that holds score, measures, seconds and slices of a finished trial, by name."""

NON_FINITE, STOPPED, REUSED, EXACT = "non_finite", "stopped", "reused_from", "exact"


def recorded(trial: FrozenTrial) -> dict[str, Any]:
    """Everything recorded of a trial by name, flat, as plain JSON values."""
    return flat(trial.user_attrs)


def flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """User attributes of a trial with the measures among them."""
    others = {name: value for name, value in attributes.items() if name != MEASURES}
    return {**attributes.get(MEASURES, {}), **others}
