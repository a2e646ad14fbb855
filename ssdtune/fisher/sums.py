"""Exact sums over the selected parameters of everything that is P long, for any alpha after one sort.

Notation: theta (P,) parameters; S (P,) a set's Fisher diagonal; m (P,) its mean gradient; q_p = 1 / r_p;
delta_p = theta_p * (lam q_p - 1) over {r_p > alpha}, lam <= alpha. With the first k parameters in falling
order of r selected, every sum is over those k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssdtune.arrays import Array
from ssdtune.errors import DataError
from ssdtune.fisher.ratios import SortedRatios

_CHUNK = 1 << 15  # parameters at a time: their terms stay in cache
_LARGEST = 1e120  # bound of q, so that q**2 stays finite; it binds only for alpha below 1e-120

# (weight, power of q) of each kept sum; `diagonal_sums` names the weights
_SUMS = (
    *((weight, power) for weight in ("forget", "retain", "theta2") for power in (0, 1, 2)),
    *((weight, power) for weight in ("forget_mean", "retain_mean") for power in (0, 1)),
    ("one", 1),
)


@dataclass(frozen=True, eq=False)
class DiagonalSums:
    """Exact suffix sums over {r > alpha} of every P-sized weight, from one pass over the parameters.

    Kept are the sums up to every block of the order (``SortedRatios.blocks``); a query adds the rest itself, so memory
    beyond the given arrays is below half a byte a parameter, and the answer is exact (float64) at every alpha.

    theta, forget, retain, forget_mean, retain_mean : (P,), any float type: parameters, Fisher diagonals and mean
    gradients of both sets. Raises DataError: an array of another length than the ratios.
    """

    ratios: SortedRatios
    theta: NDArray[np.floating]
    forget: NDArray[np.floating]
    retain: NDArray[np.floating]
    forget_mean: NDArray[np.floating]
    retain_mean: NDArray[np.floating]

    def __post_init__(self) -> None:
        for array in (self.theta, self.forget, self.retain, self.forget_mean, self.retain_mean):
            if array.shape != (self.ratios.size,):
                what = f"shape {array.shape} for {self.ratios.size} parameters"
                raise DataError(what, "damage", "give flat arrays")

    @cached_property
    def theta_norm(self) -> float:
        """|theta|, over all parameters."""
        parts = (self.theta[at : at + _CHUNK].astype(np.float64) for at in range(0, len(self.theta), _CHUNK))
        return math.sqrt(sum(float(part @ part) for part in parts))

    @cached_property
    def blocks(self) -> Array:
        """(sums, blocks + 1), of the parameters before each block."""
        count = self.ratios.block_count
        sums = np.zeros((len(_SUMS), count + 1))
        step = max(_CHUNK, count)  # not more blocks than parameters at a time
        for start in range(0, self.ratios.size, step):
            numbers = slice(start, start + step)
            blocks = self.ratios.blocks[numbers].astype(np.intp)
            for row, terms in zip(sums, self._terms(numbers), strict=True):
                row[1:] += np.bincount(blocks, terms, count + 1)[:count]
        return np.cumsum(sums, axis=1, out=sums)

    def at(self, counts: NDArray[np.int64]) -> dict[tuple[str, int], Array]:
        """Every sum over the first ``counts`` (n,) parameters, by (weight, power of q), each (n,) float64."""
        size = self.ratios.block_size
        whole = counts // size
        found = self.blocks[:, whole]
        for start in range(0, len(counts), 1024):
            part = slice(start, start + 1024)
            places = whole[part, None] * size + np.arange(size)
            inside = places < counts[part, None]
            query = np.nonzero(inside)[0]
            numbers = self.ratios.order[places[inside]].astype(np.intp)
            for row, terms in zip(found[:, part], self._terms(numbers), strict=True):
                row += np.bincount(query, terms, len(row))
        return dict(zip(_SUMS, found, strict=True))

    def _terms(self, numbers: slice | NDArray[np.integer]) -> Iterator[Array]:
        """The terms (n,) of the parameters ``numbers`` in each sum of ``_SUMS``, in their order."""
        q = inverse(self.ratios.of_parameters(numbers))
        theta = self.theta[numbers].astype(np.float64)
        weights = {
            "theta2": theta * theta,
            "forget_mean": self.forget_mean[numbers] * theta,
            "retain_mean": self.retain_mean[numbers] * theta,
            "one": np.ones(len(theta)),
        }
        weights["forget"] = self.forget[numbers] * weights["theta2"]
        weights["retain"] = self.retain[numbers] * weights["theta2"]
        scale = (None, q, q * q)
        for weight, power in _SUMS:
            factor = scale[power]
            yield weights[weight] if factor is None else weights[weight] * factor


def inverse(ratio: NDArray[np.floating]) -> Array:
    """q = 1 / ratio in float64, bounded; 0 where the ratio is infinite, or 0 and so never selected."""
    with np.errstate(divide="ignore", over="ignore"):
        q = 1.0 / ratio.astype(np.float64)
        np.minimum(q, _LARGEST, out=q)
    q[ratio == 0] = 0.0
    return q
