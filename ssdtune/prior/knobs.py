"""KnobPrior: what is foreseen of a method on one task before any trial, at places spread over its knobs.

Notation: D knobs, a place (D,) in [0, 1] for each on its own scale; N places; M members; outputs in the order
(retained, remembered), squashed (``belief.squash``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError
from ssdtune.knob import Knob
from ssdtune.plane.packing import pack, unpack
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief

FORMAT = "knobs 1"

PLACES = 512
"""Settings at which a method is foreseen, beside the published ones."""


@dataclass(frozen=True, eq=False, repr=False)
class KnobPrior:
    """What a mapper foresees of one method on one task, and the goal.

    knobs : those searched. places : (N, D), of settings that can be asked for. members : (M, 2, N) outputs.
    residual_sd : (2, N), of the truth around the member that fits the task. trust : in [0, 1], how likely the task is
    one of the kind that the mapper has learned from.

    Raises
    ------
    ConfigError : shapes do not agree, or a weight lies outside [0, 1].
    """

    knobs: tuple[Knob, ...]
    places: Array
    members: Array
    residual_sd: Array
    trust: float = 1.0
    retain_weight: float = 0.2
    min_retained: float = 0.95

    def __post_init__(self) -> None:
        n, d = self.places.shape
        if d != len(self.knobs) or self.members.shape[1:] != (2, n) or self.residual_sd.shape != (2, n):
            raise ConfigError("the arrays of a prior do not agree in shape", "prior", "predict it again")
        for name in ("retain_weight", "min_retained"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}", "prior", "choose 0 to 1")

    def __repr__(self) -> str:
        return f"KnobPrior(mode={self.mode}, retain_weight={self.retain_weight:g}, min_retained={self.min_retained:g})"

    @property
    def goal(self) -> Goal:
        """The goal as a value."""
        return Goal(self.retain_weight, self.min_retained)

    def with_goal(self, retain_weight: float, min_retained: float) -> KnobPrior:
        """The prior of the same task under another goal."""
        return replace(self, retain_weight=retain_weight, min_retained=min_retained)

    @classmethod
    def blank(cls, knobs: Sequence[Knob], first: Sequence[Mapping[str, float]], goal: Goal) -> KnobPrior:
        """Nothing foreseen: places spread over the knobs, ``first`` those to begin with, and no member."""
        places = places_of(knobs, [*first, *settings_at(knobs, spread(len(knobs)))])
        none = np.empty((0, 2, len(places)))
        sd = np.zeros((2, len(places)))
        return cls(tuple(knobs), places, none, sd, 0.0, goal.retain_weight, goal.min_retained)

    @property
    def foreseen(self) -> Foreseen | None:
        """What a belief starts from; None without members."""
        return Foreseen(self.places, self.members, self.residual_sd, self.trust) if len(self.members) else None

    @property
    def leads(self) -> bool:
        """Whether it outweighs what holds for any task."""
        return self.trust > 0.5

    @cached_property
    def mode(self) -> dict[str, float]:
        """The setting to try first: of largest expected improvement on the untouched model; without members the first
        place."""
        if self.foreseen is None:
            return self.setting(self.places[0])
        gain = KnobBelief(self.foreseen, self.goal).improvement(self.places)
        return self.setting(self.places[int(gain.argmax())])

    def setting(self, place: Array) -> dict[str, float]:
        """A place (D,) as values of the knobs."""
        return {knob.name: knob.at(float(share)) for knob, share in zip(self.knobs, place, strict=True)}

    def place(self, setting: Mapping[str, float]) -> Array:
        """(D,) where a setting lies. Raises KeyError where it lacks a knob."""
        return np.array([knob.share(setting[knob.name]) for knob in self.knobs])

    def taken_by(self, places: Array) -> Array:
        """(c, D): where the settings at places (c, D) lie, which take whole numbers only where a knob does."""
        return np.array([self.place(setting) for setting in settings_at(self.knobs, places)]).reshape(places.shape)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, arrays at float32 precision."""
        return {
            "format": FORMAT,
            "retain_weight": self.retain_weight,
            "min_retained": self.min_retained,
            "trust": self.trust,
            "knobs": [asdict(knob) for knob in self.knobs],
            **{name: pack(getattr(self, name)) for name in ("places", "members", "residual_sd")},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> KnobPrior:
        """Inverse of ``to_json``. Raises ConfigError if ``raw`` is no prior, or one of another format."""
        if raw.get("format") != FORMAT:
            raise ConfigError(f"prior of format {raw.get('format')}, not {FORMAT}", "prior", "predict it again")
        try:
            knobs = tuple(Knob(**knob) for knob in raw["knobs"])
            places, members, residual_sd = (unpack(raw[name]) for name in ("places", "members", "residual_sd"))
            numbers = (float(raw[name]) for name in ("trust", "retain_weight", "min_retained"))
            return cls(knobs, places, members, residual_sd, *numbers)
        except (KeyError, TypeError, ValueError) as reason:
            raise ConfigError(f"not a prior ({reason!r})", "prior", "predict it again") from reason


def spread(dimensions: int) -> Array:
    """(PLACES, D): evenly spread over the unit cube, the same for every task."""
    from scipy.stats import qmc  # half a second

    found: Array = qmc.Halton(dimensions, seed=0).random(PLACES)
    return found


def places_of(knobs: Sequence[Knob], settings: Sequence[Mapping[str, float]]) -> Array:
    """(N, D): where settings lie, at the precision that a prior is kept with, so that one read back has the same."""
    exact = np.array([[knob.share(setting[knob.name]) for knob in knobs] for setting in settings])
    return exact.astype(np.float32).astype(float)


def settings_at(knobs: Sequence[Knob], places: Array) -> list[dict[str, float]]:
    """Places (N, D) as settings."""
    return [{knob.name: knob.at(float(at)) for knob, at in zip(knobs, place, strict=True)} for place in places]
