"""Knob: one number of a method that is searched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Knob:
    """One number of a method that is searched, in [low, high]; whole numbers only if ``integer``.

    about : what it is, in a few words for reports.
    """

    name: str
    low: float
    high: float
    scale: Literal["log", "linear"] = "log"
    integer: bool = False
    about: str = ""

    @classmethod
    def over(
        cls, name: str, bounds: tuple[float, float], scale: Literal["log", "linear"] = "log", about: str = ""
    ) -> Knob:
        """A knob over the range of an option."""
        return cls(name, *bounds, scale=scale, about=about)

    def __post_init__(self) -> None:
        if not (self.low < self.high and (self.scale == "linear" or self.low > 0)):
            raise ValueError(f"{self.name}: the range must rise, from above 0 on a log scale")

    def at(self, share: float) -> float:
        """The value that lies a share, in [0, 1], of the way from low to high, on the knob's scale."""
        if self.scale == "log":
            return self.clip(self.low * (self.high / self.low) ** share)
        return self.clip(self.low + (self.high - self.low) * share)

    def share(self, value: float) -> float:
        """Inverse of ``at``: where a value lies, 0 at low and 1 at high; ``value`` above 0 on a log scale."""
        if self.scale == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def clip(self, value: float) -> float:
        """The nearest value that the knob can take: one ulp outside, Optuna would silently draw another."""
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.integer else float(inside)
