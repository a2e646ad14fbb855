"""Statistics of one sample set's gradients, all from their Gram matrix.

Notation: g_i (i = 1..n) per-sample gradients, G (n, n) their raw Gram matrix g_i·g_j, F = (1/n) Σ g_i g_iᵀ with
eigenvalues λ_1 >= λ_2 >= ... Where a formula is 0/0 the answer is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssdtune.arrays import Array

RANK_TOLERANCE = 1e-10  # eigenvalues below this share of the largest are rounding of float32 gradients
LEADING_SHARE = 0.9  # of the trace, held by a leading subspace
TRACE_FLOOR = 1e-30


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """What features need of one sample set.

    gram : (n, n) float64, g_i·g_j, not divided by n. losses : per-sample. embeddings : (n, d), or None where the model
    has no bottleneck. weights, samples : of a bootstrap resample, whose rows are the distinct samples scaled by
    sqrt(count) = weights, and n the number drawn.
    """

    gram: Array
    losses: NDArray[np.floating]
    embeddings: NDArray[np.floating] | None = None
    weights: Array | None = None
    samples: int = 0

    @property
    def n(self) -> int:
        return self.samples or len(self.gram)

    @cached_property
    def trace(self) -> float:
        return max(float(np.trace(self.gram)) / self.n, 0.0)

    @cached_property
    def mean_weights(self) -> Array:
        """(rows,) such that the mean gradient is ``mean_weights @ rows``."""
        return (np.ones(len(self.gram)) if self.weights is None else self.weights) / self.n

    @cached_property
    def mean_norm2(self) -> float:
        """|mean g|²."""
        return max(float(self.mean_weights @ self.gram @ self.mean_weights), 0.0)

    @cached_property
    def _eigen(self) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(self.gram / self.n)
        return np.maximum(values[::-1], 0.0), vectors[:, ::-1]

    @cached_property
    def eigenvalues(self) -> Array:
        """The nonzero eigenvalues of F, falling; those within rounding of 0 left out."""
        return above_rounding(self._eigen[0])

    @cached_property
    def basis(self) -> Array:
        """(n, k) such that ``gradients.T @ basis`` are the leading unit eigenvectors: the fewest that hold 90 % of the
        trace."""
        if not len(self.eigenvalues):
            return np.zeros((len(self.gram), 0))
        held = np.cumsum(self.eigenvalues) / self.eigenvalues.sum()
        k = min(int(np.searchsorted(held, LEADING_SHARE - 1e-9)) + 1, len(held))
        return self._eigen[1][:, :k] / np.sqrt(self.n * self.eigenvalues[:k])


def above_rounding(eigenvalues: Array) -> Array:
    """Those that are not 0 but for rounding."""
    found: Array = eigenvalues[eigenvalues > RANK_TOLERANCE * eigenvalues.max(initial=0.0)]
    return found


def top_share(eigenvalues: Array) -> float:
    """λ_1 / Σ λ of falling eigenvalues above rounding."""
    return float(eigenvalues[0] / eigenvalues.sum()) if len(eigenvalues) else 0.0


def effective_rank(eigenvalues: Array) -> float:
    """exp(-Σ p ln p), p = λ / Σ λ, of eigenvalues above rounding."""
    if not len(eigenvalues):
        return 0.0
    p = eigenvalues / eigenvalues.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def participation_ratio(x: SetStatistics) -> float:
    """(sum p)² / sum p² of the eigenvalues p, between 1 and their number; 0 of none."""
    if not len(x.eigenvalues):
        return 0.0
    p = x.eigenvalues / x.eigenvalues[0]
    return float(p.sum() ** 2 / np.sum(p * p))


def decay_slope(x: SetStatistics) -> float:
    """Slope of log eigenvalue over log rank, by least squares; 0 of fewer than three."""
    if len(x.eigenvalues) < 3:
        return 0.0
    return float(np.polyfit(np.log(np.arange(1, len(x.eigenvalues) + 1)), np.log(x.eigenvalues), 1)[0])


def log10_trace(x: SetStatistics) -> float:
    """log10 of the trace, at least that of ``TRACE_FLOOR``."""
    return math.log10(max(x.trace, TRACE_FLOOR))


def mean_share(x: SetStatistics) -> float:
    """Squared norm of the mean gradient over the trace, in [0, 1]."""
    return min(x.mean_norm2 / x.trace, 1.0) if x.trace > 0 else 0.0


def mean_loss(x: SetStatistics) -> float:
    """Mean training loss of the samples; 0 of none."""
    return float(np.mean(x.losses)) if len(x.losses) else 0.0
