"""The score of a trial: s = w * retained + (1 - w) * (1 - remembered).

Calibrated against the untouched model theta and a floor (what a model that never saw the forget set would score on it):

    retained   = clip(q_r(theta') / q_r(theta), 0, 1)
    remembered = clip((q_f(theta') - floor) / (q_f(theta) - floor), 0, 1)

The untouched model scores s = w; a model like the oracle scores about 1. ``kind="raw"`` is the seed formula
s = w * q_r + (1 - w) * (1 - q_f), which for reconstruction is maximal at a destroyed model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ssdtune.errors import ConfigError

ScoreKind = Literal["calibrated", "raw"]


@dataclass(frozen=True)
class Score:
    """One scored setting. ``violation`` <= 0 means feasible (Optuna's convention)."""

    value: float
    retained: float
    remembered: float
    violation: float

    @property
    def feasible(self) -> bool:
        return self.violation <= 0


@dataclass(frozen=True)
class ScoreRule:
    """Everything that turns (q_r, q_f) into a score; plain numbers, so any weight can be re-scored later.

    retain_weight : w in [0, 1]. min_retained : feasibility bound on ``retained`` in [0, 1] (0: no constraint).
    q_retain, q_forget : qualities of the untouched model. floor : quality on the forget set without having seen it.
    """

    q_retain: float
    q_forget: float
    floor: float
    retain_weight: float = 0.2
    min_retained: float = 0.95
    kind: ScoreKind = "calibrated"

    def __post_init__(self) -> None:
        for name in ("retain_weight", "min_retained"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}", "score", "choose 0 to 1")
        if not self.q_retain > 0:
            raise ConfigError(
                f"the untouched model's retain quality is {self.q_retain:.4g}", "score", "check checkpoint and mask"
            )
        if self.kind == "calibrated" and not self.q_forget > self.floor:
            raise ConfigError(
                f"nothing to forget: forget quality {self.q_forget:.4g} is not above the floor {self.floor:.4g}",
                "score",
                "check the forget set, or set score.floor",
            )

    def __call__(self, q_retain: float, q_forget: float) -> Score:
        """Score mean qualities; a non-finite quality gives the worst score, infeasible."""
        if not (math.isfinite(q_retain) and math.isfinite(q_forget)):
            return Score(value=0.0, retained=0.0, remembered=1.0, violation=1.0)
        retained = _clip(q_retain / self.q_retain)
        remembered = _clip(self.unclipped(q_retain, q_forget).get("remembered", 0.0))
        kept, left = (q_retain, q_forget) if self.kind == "raw" else (retained, remembered)
        w = self.retain_weight
        return Score(w * kept + (1 - w) * (1 - left), retained, remembered, self.min_retained - retained)

    def raw(self, q_retain: float, q_forget: float) -> Score:
        """The seed formula's score of the same qualities."""
        return replace(self, kind="raw")(q_retain, q_forget)

    def unclipped(self, q_retain: float, q_forget: float) -> dict[str, float]:
        """``retained`` and ``remembered`` without the clipping to [0, 1]; nothing where they are not defined."""
        if not (math.isfinite(q_retain) and math.isfinite(q_forget)) or self.q_forget <= self.floor:
            return {}
        return {
            "retained": q_retain / self.q_retain,
            "remembered": (q_forget - self.floor) / (self.q_forget - self.floor),
        }


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
