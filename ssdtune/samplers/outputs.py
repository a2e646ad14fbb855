"""What a sampler reads of a trial: user attributes, of which those of ``measures`` may also stand by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURES = "measures"
"""The user attribute that holds score, measures, seconds and slices of a finished trial, by name."""

RETAINED, REMEMBERED = "retained", "remembered"
UNCLIPPED, STANDARD_ERROR = "_unclipped", "_se"
"""Suffixes: the same without clipping to [0, 1], and the standard error of an estimate."""

NON_FINITE = "non_finite"
"""Sets in which an output was not finite."""


def flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """User attributes of a trial with its measures among them."""
    others = {name: value for name, value in attributes.items() if name != MEASURES}
    return {**attributes.get(MEASURES, {}), **others}
