"""Expected score and expected improvement under feasibility: closed form in one output, quadrature in the other.

Notation: R, F jointly Gaussian beliefs of the unclipped retained and remembered; w retain_weight; t the incumbent's s;

    s = w clip(R) + (1 - w) (1 - clip(F)),    EI = E[ max(s - t, 0) 1(R >= min_retained) ].

Given R = r, F is Gaussian and the inner expectation over V = 1 - F that of a call option on clip(V), closed in the
normal density and distribution. The outer one is Gauss-Legendre in probability, split at the kink r = 1.
Source of the plain case: Jones, Schonlau & Welch, J. Global Optimization 13 (1998), eq. 15.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from ssdtune.arrays import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)
_TINY = 1e-7


@dataclass(frozen=True)
class Goal:
    """What is sought: retain_weight w and min_retained, both in [0, 1], as in ``ssdtune.objective.score``."""

    retain_weight: float = 0.2
    min_retained: float = 0.95

    @property
    def untouched(self) -> float:
        """s of the untouched model, w: known before any trial."""
        return self.retain_weight

    def score(self, retained: ArrayLike, remembered: ArrayLike) -> Array:
        """s from unclipped outputs, feasible or not."""
        w = self.retain_weight
        return np.asarray(w * np.clip(retained, 0, 1) + (1 - w) * (1 - np.clip(remembered, 0, 1)))

    def feasible(self, retained: ArrayLike) -> NDArray[np.bool_]:
        """Where the constraint holds; min_retained = 0 is no constraint."""
        return np.asarray(np.clip(retained, 0, 1) >= self.min_retained)


def call(mean: Array, sd: Array, strike: Array | float) -> Array:
    """E[max(V - strike, 0)] for V ~ N(mean, sd^2), sd > 0."""
    z = (mean - strike) / sd
    return np.asarray(sd * (np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) + z * ndtr(z)))


def clipped_call(mean: Array, sd: Array, strike: Array) -> Array:
    """E[max(clip(V, 0, 1) - strike, 0)] for V ~ N(mean, sd^2), sd > 0."""
    value = call(mean, sd, np.maximum(strike, 0)) - call(mean, sd, 1.0) + np.maximum(-strike, 0)
    return np.where(strike < 1, np.maximum(value, 0), 0.0)


def expected_improvement(
    mean: Array, cov: Array, incumbent: Array | float, goal: Goal, low: Array | None = None, high: Array | None = None
) -> Array:
    """EI of the score at c settings for M members.

    mean : (M, 2, c), in the order (retained, remembered). cov : (2, 2, c). incumbent : broadcasts to (M, c).
    low, high : (2, c) bounds of the outputs. R is truncated to them; F's mean, given R, is moved between them, and its
    sd is at most that of a uniform there. Returns (M, c).
    """
    sd = np.sqrt(np.maximum(cov[0, 0], _TINY**2))
    slope = cov[0, 1] / sd  # of F on R's standard score
    rest = np.sqrt(np.maximum(cov[1, 1] - slope**2, _TINY**2))
    retained, remembered = mean[:, 0], mean[:, 1]
    incumbent = np.broadcast_to(incumbent, retained.shape)
    first, last = np.zeros(retained.shape), np.ones(retained.shape)
    if low is not None and high is not None:
        # a belief far outside its bounds would leave nothing to truncate
        retained = _between(retained, low[0] - sd, high[0] + sd)
        first, last = ndtr((low[0] - retained) / sd), ndtr((high[0] - retained) / sd)
        rest = np.minimum(rest, np.maximum((high[1] - low[1]) / np.sqrt(12), _TINY))
    start = first if goal.min_retained <= 0 else _between(ndtr((goal.min_retained - retained) / sd), first, last)
    kink = _between(ndtr((1 - retained) / sd), start, last)
    share = max(1 - goal.retain_weight, 1e-12)
    total = np.zeros(retained.shape)
    for begin, width in ((start, kink - start), (kink, last - kink)):
        some = np.nonzero(width > 0)  # of most settings one of the two is empty
        c = some[1]
        z = ndtri(_between(begin[some] + width[some] * (_NODES[:, None] + 1) / 2, 1e-12, 1 - 1e-12))
        missing = incumbent[some] - goal.retain_weight * _between(retained[some] + sd[c] * z, 0, 1)
        forgotten = remembered[some] + slope[c] * z
        if low is not None and high is not None:
            forgotten = _between(forgotten, low[1, c], high[1, c])
        gains = clipped_call(1 - forgotten, rest[c], missing / share)
        total[some] += share / 2 * width[some] * (_WEIGHTS @ gains)
    return total / np.maximum(last - first, _TINY)


def _between(x: Array, low: Array | float, high: Array | float) -> Array:
    """``np.clip`` without its overhead, which on a few hundred settings is most of it."""
    return np.asarray(np.minimum(np.maximum(x, low), high))
