"""Exact sums over the selected parameters of everything that is P long, for any alpha after one sort.

Notation: theta (P,) parameters; S (P,) a set's Fisher diagonal; m (P,) its mean gradient; q_p = r_p ** -exponent;
delta_p = theta_p * (lam ** exponent * q_p - 1) over {r_p > alpha}, lam <= alpha. With the first k parameters in falling
order of r selected, every sum is over those k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssdtune.errors import DataError
from ssdtune.fisher.ratios import SortedRatios, positive

Floats = NDArray[np.float64]

_BLOCK = 256  # parameters between two kept sums: a query adds at most this many terms itself
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
        parts = (
            self.theta[start : start + (1 << 15)].astype(np.float64) for start in range(0, len(self.theta), 1 << 15)
        )
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


def powers(ratio: NDArray[np.floating], exponent: float) -> Floats:
    """q = ratio ** -exponent in float64, bounded; 0 where the ratio is infinite."""
    with np.errstate(divide="ignore", over="ignore"):
        q = 1.0 / ratio.astype(np.float64)
        return np.minimum(q if exponent == 1.0 else q**exponent, _LARGEST)
