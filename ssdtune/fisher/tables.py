"""The sums over selected parameters that every damage is made of, for any alpha after one sort.

Notation: theta (P,) parameters; S (P,) a set's Fisher diagonal; m (P,) its mean gradient; g_i its per-sample gradients;
q_p = r_p ** -exponent; delta_p = theta_p * (lam ** exponent * q_p - 1) over {r_p > alpha}, lam <= alpha. With the first
k parameters in falling order of r selected, everything below is a sum over those k.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssdtune.errors import DataError
from ssdtune.fisher.ratios import SortedRatios, positive

Floats = NDArray[np.float64]

_BLOCK = 256  # parameters between two kept sums: a query adds at most this many terms itself
_CHUNK = 1 << 15  # parameters at a time through the gradient rows: 512 kB of float64 stay in cache
_LARGEST = 1e120  # bound of q, so that q**2 stays finite; it binds only for alpha below 1e-120 (exponent 1)

# (weight, power of q) of each kept sum; `diagonal_sums` names the weights
_SUMS = (
    *((weight, power) for weight in ("forget", "retain", "theta2") for power in (0, 1, 2)),
    *((weight, power) for weight in ("forget_mean", "retain_mean") for power in (0, 1)),
    ("one", 1),
)


@dataclass(frozen=True, eq=False)
class DiagonalSums:
    """Exact suffix sums over {r > alpha} of every P-sized weight, from one pass over the parameters.

    Kept are the sums at every 256th parameter of the order; a query adds the rest itself, so memory beyond the given
    arrays is below half a byte a parameter, and the answer is exact (float64) at every alpha.
    """

    ratios: SortedRatios
    theta: NDArray[np.floating]
    forget: NDArray[np.floating]
    retain: NDArray[np.floating]
    forget_mean: NDArray[np.floating]
    retain_mean: NDArray[np.floating]
    exponent: float
    blocks: Floats  # (sums, blocks + 1), of the parameters before each block

    @cached_property
    def theta_norm(self) -> float:
        """|theta|, over all parameters."""
        parts = (self.theta[start : start + _CHUNK].astype(np.float64) for start in range(0, len(self.theta), _CHUNK))
        return math.sqrt(sum(float(part @ part) for part in parts))

    @classmethod
    def of(
        cls,
        ratios: SortedRatios,
        theta: NDArray[np.floating],
        *,
        forget: NDArray[np.floating],
        retain: NDArray[np.floating],
        forget_mean: NDArray[np.floating],
        retain_mean: NDArray[np.floating],
        exponent: float = 1.0,
    ) -> DiagonalSums:
        """All arrays (P,), any float type: parameters, Fisher diagonals and mean gradients of both sets.

        Raises
        ------
        DataError : an array of another length than the ratios.
        ConfigError : exponent not positive.
        """
        for array in (theta, forget, retain, forget_mean, retain_mean):
            if array.shape != (ratios.size,):
                raise DataError(f"shape {array.shape} for {ratios.size} parameters", "damage", "give flat arrays")
        positive("exponent", exponent)
        count = -(-ratios.positive // _BLOCK)
        sums = cls(ratios, theta, forget, retain, forget_mean, retain_mean, exponent, np.zeros((len(_SUMS), count + 1)))
        step = _BLOCK * 64  # 16384 parameters: the terms stay in cache
        for start in range(0, ratios.positive, step):
            places = np.arange(start, min(start + step, ratios.positive))
            first = start // _BLOCK
            terms = sums._terms(places)
            here = np.add.reduceat(terms, np.arange(0, len(places), _BLOCK), axis=1)
            sums.blocks[:, first + 1 : first + 1 + here.shape[1]] = here
        np.cumsum(sums.blocks, axis=1, out=sums.blocks)
        return sums

    def at(self, counts: NDArray[np.int64]) -> dict[tuple[str, int], Floats]:
        """Every sum over the first ``counts`` (n,) parameters, by (weight, power of q), each (n,) float64."""
        whole = counts // _BLOCK
        found = self.blocks[:, whole]
        for start in range(0, len(counts), 1024):
            part = slice(start, start + 1024)
            places = whole[part, None] * _BLOCK + np.arange(_BLOCK)
            inside = places < counts[part, None]
            terms = np.zeros((len(_SUMS), *places.shape))
            terms[:, inside] = self._terms(places[inside])
            found[:, part] += terms.sum(-1)
        return dict(zip(_SUMS, found, strict=True))

    def _terms(self, places: NDArray[np.integer]) -> Floats:
        """(sums, n) terms of the parameters at ``places`` (n,) of the order."""
        order = self.ratios.order[places].astype(np.intp)
        q = powers(self.ratios.values[places], self.exponent)
        theta = np.take(self.theta, order).astype(np.float64)
        weights = {
            "theta2": theta * theta,
            "forget_mean": np.take(self.forget_mean, order) * theta,
            "retain_mean": np.take(self.retain_mean, order) * theta,
            "one": 1.0,
        }
        weights["forget"] = np.take(self.forget, order) * weights["theta2"]
        weights["retain"] = np.take(self.retain, order) * weights["theta2"]
        scale = (1.0, q, q * q)
        terms = np.empty((len(_SUMS), len(places)))
        for row, (weight, power) in enumerate(_SUMS):
            np.multiply(weights[weight], scale[power], out=terms[row])
        return terms


@dataclass(frozen=True, eq=False)
class RowTables:
    """Sums of v_p theta_p and v_p theta_p q_p over the first k parameters, for rows v (per-sample gradients) and K k's.

    ``v @ delta = lam ** exponent * shrunk - plain``. At the K ``counts`` the sums are exact; between two of them they
    are linear in k, which takes the parameters of one bin as alike. The default counts are log-spaced, so a bin spans
    ``P ** (1 / K) - 1`` of the selected parameters (3.4 % for P = 30 M, K = 512): the rows of a bin's boundary are off
    by a part of that bin's own share. For P <= K every count is kept and nothing is interpolated.

    Parameters
    ----------
    counts : (K,) rising numbers of selected parameters; the first is 0.
    plain, shrunk : (n, K) float64 sums for the n rows.
    samples : what a mean over rows divides by; n, unless the rows are projections.
    """

    counts: NDArray[np.int64]
    plain: Floats
    shrunk: Floats
    samples: int
    exponent: float = 1.0

    @classmethod
    def of(
        cls,
        ratios: SortedRatios,
        theta: NDArray[np.floating],
        blocks: Iterable[tuple[slice, NDArray[np.floating]]],
        samples: int,
        counts: NDArray[np.int64] | None = None,
        exponent: float = 1.0,
    ) -> RowTables:
        """One pass over ``blocks`` of (row slice, (rows, P) gradients), about 5 ns a gradient entry on one core.

        ``counts`` default to ``log_spaced_counts``; 0 and all selectable parameters are always among them.
        """
        positive("exponent", exponent)
        total = ratios.positive
        wanted = log_spaced_counts(total) if counts is None else np.clip(counts, 0, total)
        knots = np.unique(np.append(wanted, [0, total]))
        bins, plain_weight, shrunk_weight = _binned_weights(ratios, theta, knots, exponent)
        plain, shrunk = np.zeros((2, samples, len(knots) + 1))
        for rows, block in blocks:
            for start in range(0, block.shape[1], _CHUNK):
                part = slice(start, start + _CHUNK)
                places = bins[part].astype(np.intp)
                for row, values in zip(range(*rows.indices(samples)), block[:, part], strict=True):
                    plain[row] += np.bincount(places, values * plain_weight[part], len(knots) + 1)
                    shrunk[row] += np.bincount(places, values * shrunk_weight[part], len(knots) + 1)
        # bin 0 is empty, bin j holds what knot j adds to knot j - 1, the last bin what is never selected
        plain, shrunk = (np.cumsum(table[:, :-1], axis=1) for table in (plain, shrunk))
        return cls(knots, plain, shrunk, samples, exponent)

    def at(self, counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """(plain, shrunk), each (n, len(counts)), over the first ``counts`` parameters."""
        last = len(self.counts) - 1
        left = np.clip(np.searchsorted(self.counts, counts, side="right") - 1, 0, last)
        right = np.minimum(left + 1, last)
        width = np.maximum(self.counts[right] - self.counts[left], 1)
        share = np.clip((counts - self.counts[left]) / width, 0.0, 1.0)
        return _between(self.plain, left, right, share), _between(self.shrunk, left, right, share)

    def project(self, vectors: Floats) -> RowTables:
        """Rows combined by orthonormal columns ``vectors`` (n, k) of the sample space.

        With the eigenvectors of the Gram matrix, row j becomes sqrt(n lambda_j) u_j, u_j the unit eigenvector of the
        Fisher information; its quadratic form is then that of the k leading eigenpairs.
        """
        return replace(self, plain=vectors.T @ self.plain, shrunk=vectors.T @ self.shrunk)

    def quadratic(self, counts: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """(1/n) Σ_i of plain², plain * shrunk and shrunk², each (len(counts),)."""
        parts = np.empty((3, len(counts)))
        for start in range(0, len(counts), 1024):
            part = slice(start, start + 1024)
            plain, shrunk = self.at(counts[part])
            for row, (left, right) in enumerate(((plain, plain), (plain, shrunk), (shrunk, shrunk))):
                parts[row, part] = np.einsum("ij,ij->j", left, right) / max(self.samples, 1)
        return parts[0], parts[1], parts[2]


def log_spaced_counts(total: int, number: int = 512) -> NDArray[np.int64]:
    """At most ``number`` rising counts from 1 to ``total``, log-spaced; all of them if ``total <= number``."""
    if total <= number:
        return np.arange(1, total + 1)
    # rounding merges the smallest of a geometric grid: ask for more until as many as wanted are distinct
    wanted = number
    counts = np.unique(np.rint(np.geomspace(1, total, wanted)).astype(np.int64))
    while len(counts) < number:
        wanted += number - len(counts)
        finer = np.unique(np.rint(np.geomspace(1, total, wanted)).astype(np.int64))
        if len(finer) > number:
            break
        counts = finer
    return counts


def powers(ratio: NDArray[np.floating], exponent: float) -> Floats:
    """q = ratio ** -exponent in float64, bounded; 0 where the ratio is infinite."""
    with np.errstate(divide="ignore", over="ignore"):
        q = 1.0 / ratio.astype(np.float64)
        return np.minimum(q if exponent == 1.0 else q**exponent, _LARGEST)


def _binned_weights(
    ratios: SortedRatios, theta: NDArray[np.floating], counts: NDArray[np.int64], exponent: float
) -> tuple[NDArray[np.integer], Floats, Floats]:
    """Per parameter, in model order: its bin (the last one is never selected) and the weights theta, theta * q."""
    bins: NDArray[np.integer] = np.full(ratios.size, len(counts), np.int16 if len(counts) < 2**15 else np.int32)
    shrunk = np.zeros(ratios.size)
    step = 1 << 20
    for start in range(0, ratios.positive, step):
        places = slice(start, min(start + step, ratios.positive))
        order = ratios.order[places]
        bins[order] = np.searchsorted(counts, np.arange(places.start, places.stop), side="right")
        shrunk[order] = powers(ratios.values[places], exponent)
    plain = theta.astype(np.float64)
    shrunk *= plain
    return bins, plain, shrunk


def _between(table: Floats, left: NDArray[np.integer], right: NDArray[np.integer], share: Floats) -> Floats:
    low = table[:, left]
    return low + share * (table[:, right] - low)
