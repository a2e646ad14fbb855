"""What a trial came to, as plain values that can be pickled, stored and sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssdtune.unlearning.method import Setting

Columns = Mapping[str, Mapping[str, np.ndarray]]
"""Measures of every slice, ``columns[set][measure]`` (n,) in the set's own order."""

STOPPED, REUSED, EXACT, PRECISION, NON_FINITE = "stopped", "reused_from", "exact", "precision", "non_finite"


@dataclass(frozen=True)
class Outcome:
    """The measures of one setting.

    means : every measure as ``{set}_{measure}``, None where it is not finite; estimates where the trial stopped early.
    columns : (n,) quality q of the measured slices in scoring order, by set. stopped : why it stopped early, None if it
    is complete; ``seen`` then counts the slices behind the estimates, and ``errors`` are the standard errors of
    ``retained`` and ``remembered``. broken : sets with output that is not finite; the score is then the worst, whatever
    was left. notes : what the method says of the setting. slices, possible : evaluated here, and of all sets. cost : in
    slice passes, evaluation included. seconds : by phase. reused : the trial that these values come from. checkpoints :
    other settings, and what they come to, that were passed on the way to this one; their cost is their evaluation's.
    """

    means: Mapping[str, float | None]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    stopped: str | None = None
    seen: int = 0
    errors: Mapping[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    notes: Mapping[str, float] = field(default_factory=dict)
    slices: int = 0
    possible: int = 0
    cost: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    precision: str = "float32"
    exact: bool = False
    reused: str | None = None
    checkpoints: Sequence[tuple[Setting, Outcome]] = ()

    def values(self) -> dict[str, Any]:
        """Flat plain JSON values, as they are recorded; columns apart."""
        found: dict[str, Any] = {**as_means(self.notes), **self.means}
        found |= {f"{name}_se": error for name, error in self.errors.items()}
        if self.broken:
            found[NON_FINITE] = self.broken
        if self.stopped is not None:
            found |= {STOPPED: self.stopped, "step": self.seen}
        if self.exact:
            found[EXACT] = True
        if self.precision != "float32":
            found[PRECISION] = self.precision
        if self.reused is not None:
            found[REUSED] = self.reused
        counts = {"slices": self.slices, "slices_possible": self.possible, "cost": self.cost}
        return found | counts | {f"seconds_{phase}": value for phase, value in self.seconds.items()}


def as_means(measured: Mapping[str, float]) -> dict[str, float | None]:
    """Measures as plain JSON values."""
    return {name: float(value) if math.isfinite(value) else None for name, value in measured.items()}
