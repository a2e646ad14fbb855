"""TaskView: all that the mapper sees of one task, on a grid over the (rho, kappa) plane.

The grid is the same for every task: selected fraction rho and depth kappa = lambda / alpha, even on a log scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError
from ssdtune.fisher.damage import DamageTerms
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.plane.course import Course
from ssdtune.plane.packing import pack, unpack
from ssdtune.plane.settings import GRID_KAPPA, GRID_RHO, LINE_KAPPA, LINE_RHO
from ssdtune.prior.experience import Experience


@dataclass(frozen=True, eq=False)
class TaskView:
    """Spectrum features and damage terms of one task.

    features : of the analysis, by name.
    alpha : (R,) threshold that selects ``GRID_RHO``; falling, level where parameters are few.
    terms : each (R, K), the fields of ``DamageTerms`` at (alpha, alpha * GRID_KAPPA).
    floor_ratio : floor / q_forget of the untouched model, below 1; None where it is not known.
    course : of the damage between the grid's nodes; None where it is not known.

    Raises ConfigError: shapes do not agree, or the floor ratio is not below 1.
    """

    features: Mapping[str, float]
    alpha: Array
    terms: Mapping[str, Array] = field(repr=False)
    floor_ratio: float | None = None
    course: Course | None = None

    def __post_init__(self) -> None:
        shape = (GRID_RHO.size, GRID_KAPPA.size)
        if self.alpha.shape != shape[:1] or any(term.shape != shape for term in self.terms.values()):
            raise ConfigError("terms do not lie on the mapper's grid", "task view", "make it with TaskView.of")
        if self.floor_ratio is not None and not self.floor_ratio < 1:
            raise ConfigError(
                f"nothing to forget: the floor is {self.floor_ratio:.4g} of the forget quality",
                "score.floor",
                "check the forget set, or set score.floor",
            )

    @classmethod
    def of(cls, analysis: FisherAnalysis, floor_ratio: float | None = None) -> TaskView:
        """The view of an analysis, without a forward pass."""
        alpha, along = on_lines(analysis)
        return replace(cls.on_grid(analysis), floor_ratio=floor_ratio, course=_course(alpha, along.retain_diagonal))

    @classmethod
    def on_grid(cls, analysis: FisherAnalysis) -> TaskView:
        """What is kept of an analysis's view: all but the floor and the course."""
        alpha = np.asarray(analysis.alpha_at(GRID_RHO), float)
        terms = analysis.damage(alpha[:, None], alpha[:, None] * GRID_KAPPA).as_dict()
        return cls(analysis.features(), alpha, terms)

    @classmethod
    def of_experience(cls, record: Experience) -> TaskView:
        """The view of a recorded task, with its oracle's floor."""
        grid = {name.removeprefix("grid_"): v for name, v in record.tables.items() if name.startswith("grid_")}
        alpha, lines = grid.pop("alpha"), record.tables
        course = _course(lines["line_alpha"], lines["line_retain_diagonal"]) if "line_alpha" in lines else None
        return cls(record.features, alpha, grid, record.floor_ratio, course)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values without the course; arrays as base64 of little-endian float32."""
        return {
            "features": {name: float(value) for name, value in self.features.items()},
            "alpha": pack(self.alpha),
            "terms": {name: pack(term) for name, term in self.terms.items()},
            "floor_ratio": self.floor_ratio,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TaskView:
        """Inverse of ``to_json`` at float32 precision, but for the course. Raises ConfigError if ``raw`` is no task
        view."""
        try:
            terms = {str(name): unpack(term) for name, term in raw["terms"].items()}
            return cls(dict(raw["features"]), unpack(raw["alpha"]), terms, raw["floor_ratio"])
        except (KeyError, TypeError, ValueError, AttributeError) as reason:
            raise ConfigError(f"not a task view ({reason!r})", "task view", "analyse the task again") from reason


def on_lines(analysis: FisherAnalysis) -> tuple[Array, DamageTerms]:
    """Thresholds that select ``LINE_RHO`` (F,), and the damage terms (F, Q) there at the depths ``LINE_KAPPA``."""
    alpha = np.asarray(analysis.alpha_at(LINE_RHO), float)
    return alpha, analysis.damage(alpha[:, None], alpha[:, None] * LINE_KAPPA)


def _course(alpha: Array, damage: Array) -> Course:
    """Of damages at alpha and the depths of the lines."""
    return Course(np.log10(alpha), np.log10(LINE_KAPPA), damage)
