"""The plane of SSD settings: canonical form, its ranges and grids, boxes, and a maximiser over them.

(alpha, lambda > alpha) is the same dampening as (lambda, lambda), so a setting's canonical form is
(log10 max(alpha, lambda), log10 kappa <= 0) with kappa = lambda / max(alpha, lambda). For one task alpha and the
selected fraction rho say the same, so (rho, kappa) are the coordinates in which tasks are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError

LINE_RHO: Array = np.geomspace(3e-4, 0.7, 257)
LINE_KAPPA: Array = np.array([0.01, 0.07, 0.3, 0.6, 1.0])
"""Recorded tasks are measured along lines of these depths, at some of these selected fractions."""

RHO_RANGE, KAPPA_RANGE = ((float(axis[0]), float(axis[-1])) for axis in (LINE_RHO, LINE_KAPPA))
"""The part of the plane that is searched or measured in these coordinates, both on a log scale."""

GRID_RHO: Array = np.geomspace(3e-5, 0.9, 72)
GRID_KAPPA: Array = np.geomspace(0.005, 1.0, 8)
"""The grid on which the mapper sees every task and predicts its response."""

_PER_AXIS, _KEPT, _AROUND, _ROUNDS, _ZOOM = 22, 4, 24, 3, 3.0


def canonical(alpha: ArrayLike, lam: ArrayLike) -> tuple[Array, Array]:
    """(log10 of the effective alpha, log10 kappa <= 0) of settings; ``alpha`` and ``lam`` broadcast."""
    log_alpha, log_lam = np.log10(np.asarray(alpha, float)), np.log10(np.asarray(lam, float))
    effective = np.maximum(log_alpha, log_lam)
    return effective, log_lam - effective


@dataclass(frozen=True, eq=False)
class Settings:
    """n settings: alpha (n,) and lam (n,)."""

    alpha: Array
    lam: Array

    def __len__(self) -> int:
        return len(self.alpha)

    def __add__(self, other: Settings) -> Settings:
        return Settings(np.concatenate([self.alpha, other.alpha]), np.concatenate([self.lam, other.lam]))

    def logs(self) -> tuple[Array, Array]:
        """Canonical coordinates: (log10 of the effective alpha, log10 kappa)."""
        return canonical(self.alpha, self.lam)

    def take(self, index: ArrayLike) -> Settings:
        """The settings at ``index``, in its order."""
        return Settings(self.alpha[np.asarray(index)], self.lam[np.asarray(index)])

    def distance_to(self, others: Settings) -> Array:
        """(n,) decades to the nearest of ``others`` in canonical coordinates; infinite where there are none."""
        if not len(others):
            return np.full(len(self), np.inf)
        alpha, kappa = (own[:, None] - theirs for own, theirs in zip(self.logs(), others.logs(), strict=True))
        return np.asarray(np.sqrt((alpha**2 + kappa**2).min(axis=1)))


NOWHERE = Settings(np.empty(0), np.empty(0))
"""No settings."""


@dataclass(frozen=True)
class Box:
    """Bounds of a search, each (low, high) with 0 < low <= high; low = high fixes a parameter.

    Raises ConfigError: a bound is not positive and finite, or low > high.
    """

    alpha: tuple[float, float] = (0.1, 300.0)
    lam: tuple[float, float] = (0.03, 300.0)

    def __post_init__(self) -> None:
        for name in ("alpha", "lam"):
            low, high = getattr(self, name)
            if not 0 < low <= high < np.inf:
                raise ConfigError(f"bounds of {name} are {low} and {high}", "search", "give 0 < low <= high")

    @property
    def logs(self) -> Array:
        """(2, 2): log10 of (low, high) of alpha, then of lambda."""
        found: Array = np.log10(np.array([self.alpha, self.lam]))
        return found

    def clip(self, settings: Settings) -> Settings:
        """The nearest settings inside."""
        return Settings(np.clip(settings.alpha, *self.alpha), np.clip(settings.lam, *self.lam))

    def grid(self, shift: ArrayLike = (0.5, 0.5), per_axis: int = _PER_AXIS) -> Settings:
        """A log grid, moved by ``shift`` in [0, 1) of a cell, with the box's edges.

        Of lambda > alpha it holds only those settings that no larger alpha of the box reproduces.
        """
        low, high = self.logs[:, :1], self.logs[:, 1:]
        place = (np.arange(per_axis) + np.asarray(shift, float)[:, None]) / per_axis
        axes = np.concatenate([low, low + (high - low) * place, high], axis=1)
        log_alpha, log_lam = (axis.ravel() for axis in np.meshgrid(axes[0], axes[1], indexing="ij"))
        own = (log_lam <= log_alpha) | (log_alpha == high[0])
        diagonal = np.clip(axes[1], low[0], high[0])
        log_alpha, log_lam = np.append(log_alpha[own], diagonal), np.append(log_lam[own], axes[1])
        return self.clip(Settings(10**log_alpha, 10**log_lam))

    def around(self, settings: Settings, step: Array, rng: np.random.Generator) -> Settings:
        """Some settings drawn uniformly within ``step`` (2,) decades of each of ``settings``, inside the box."""
        offset = rng.uniform(-1, 1, size=(_AROUND, 2)) * step
        log_alpha = np.log10(settings.alpha)[:, None] + offset[:, 0]
        log_lam = np.log10(settings.lam)[:, None] + offset[:, 1]
        return self.clip(Settings(10 ** log_alpha.ravel(), 10 ** log_lam.ravel()))


def maximise(gain: Callable[[Settings], Array], box: Box, rng: np.random.Generator) -> Settings:
    """The one setting of largest ``gain``: a grid over the box, then ever smaller neighbourhoods of the best few."""
    candidates = box.grid(rng.uniform(size=2))
    gains = gain(candidates)
    step = (box.logs[:, 1] - box.logs[:, 0]) / _PER_AXIS
    for _ in range(_ROUNDS):
        best = np.argsort(-gains, kind="stable")[:_KEPT]
        fresh = box.around(candidates.take(best), step, rng)
        candidates = candidates.take(best) + fresh
        gains = np.concatenate([gains[best], gain(fresh)])
        step = step / _ZOOM
    return candidates.take([int(np.argmax(gains))])
