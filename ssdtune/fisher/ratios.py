"""Parameters in the order in which SSD selects them, and the two-way road between alpha and the selected fraction.

Notation: P parameters; f, o (P,) forget and denominator Fisher diagonals; r = f / o; k(alpha) = |{p : r_p > alpha}|;
rho = k / P. In descending order of r the selected parameters of any alpha are the first k(alpha).

Looking parameters up in that order jumps through memory, and is what large models would wait for. So ``blocks`` does it
once, and sums over the selected run through memory as it lies, into the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ssdtune.dampening import ratio, rounded_down
from ssdtune.errors import ConfigError, DataError

_SMALLEST = np.finfo(np.float64).tiny
_BLOCK = 256  # parameters a block, for up to 16 million of them
_NUMBERS = 2**16 - 1  # of blocks, so that 16 bits hold one
_CHUNK = 1 << 16  # parameters at a time


@dataclass(frozen=True, eq=False)
class SortedRatios:
    """The ratios r in descending order.

    forget, denominator : (P,) f and o, not copied.
    order : (P,) integers, parameter numbers by falling r; ties in any order.
    values : (P,) r in that order, in the precision of the diagonals; inf where o = 0 < f, 0 where f = 0.
    """

    forget: NDArray[np.floating]
    denominator: NDArray[np.floating]
    order: NDArray[np.integer]
    values: NDArray[np.floating]

    @classmethod
    def of(cls, f: NDArray[np.floating], o: NDArray[np.floating]) -> SortedRatios:
        """Sort once: O(P log P), 16 bytes a parameter at the peak for float32 diagonals.

        Raises DataError: the diagonals differ in shape, or hold a negative, infinite or missing value.
        """
        _check_diagonals(f, o)
        values = ratio_of(f, o)
        order = np.argsort(values)
        if len(order) < 2**32:
            order = order.astype(np.uint32)
        # views of rising arrays, so that looking an alpha up needs no copy
        return cls(f, o, order[::-1], values[order][::-1])

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return len(self.values)

    @cached_property
    def positive(self) -> int:
        """How many parameters some alpha > 0 selects: those with r > 0."""
        return int(self.counts(np.array(0.0)))

    @cached_property
    def infinite(self) -> int:
        """How many parameters every alpha selects: those with o = 0 < f."""
        return self.size - int(np.searchsorted(self._rising, np.inf, side="left"))

    def of_parameters(self, numbers: slice | NDArray[np.integer]) -> NDArray[np.floating]:
        """r of the parameters ``numbers``, in the model's order."""
        return ratio_of(self.forget[numbers], self.denominator[numbers])

    @cached_property
    def block_size(self) -> int:
        """How many neighbours in the order make a block."""
        size = _BLOCK
        while size * _NUMBERS < self.size:
            size *= 2
        return size

    @property
    def block_count(self) -> int:
        """How many blocks hold the parameters that can be selected."""
        return -(-self.positive // self.block_size)

    @cached_property
    def blocks(self) -> NDArray[np.uint16]:
        """(P,) the block of each parameter: its place in the order over the block size, rounded down;
        ``block_count`` for r = 0."""
        found = np.full(self.size, self.block_count, np.uint16)
        for start in range(0, self.positive, _CHUNK):
            places = np.arange(start, min(start + _CHUNK, self.positive))
            found[self.order[places]] = places // self.block_size
        return found

    @property
    def _rising(self) -> NDArray[np.floating]:
        return self.values[::-1]

    def counts(self, alpha: ArrayLike) -> NDArray[np.int64]:
        """k(alpha) in alpha's shape; exact, O(log P) each."""
        wanted = torch.from_numpy(np.array(alpha, np.float64))
        bound = rounded_down(wanted, getattr(torch, self.values.dtype.name)).numpy()
        return (self.size - np.searchsorted(self._rising, bound, side="right")).astype(np.int64)

    def selected_fraction(self, alpha: ArrayLike) -> NDArray[np.float64]:
        """rho = k(alpha) / P, in alpha's shape. Raises ConfigError unless alpha > 0."""
        return self.counts(positive("alpha", alpha)) / max(self.size, 1)

    def alpha_at(self, rho: ArrayLike) -> NDArray[np.float64]:
        """An alpha whose selected fraction is the nearest that can be had to ``rho``, in rho's shape.

        It lies midway (in log) between the last selected ratio and the first that is not, so rounding does not move
        a parameter across. ``alpha_at(selected_fraction(alpha))`` selects what ``alpha`` selects. Not every rho can be
        had: equal ratios are selected together, r = inf always and f = 0 never; where nothing can be selected at all
        the answer is 1.

        Raises ConfigError: a rho outside [0, 1].
        """
        share = np.asarray(rho, np.float64)
        if not np.all((share >= 0) & (share <= 1)):
            raise ConfigError(f"the selected fraction must lie in [0, 1], got {rho!r}", todo="choose a share")
        return self._between(self._nearest(np.clip(share * self.size, self.infinite, self.positive)))

    def _nearest(self, wanted: NDArray[np.float64]) -> NDArray[np.int64]:
        """The count nearest to ``wanted``, which need not be whole, that does not part equal ratios."""
        if not self.positive:
            return np.zeros(wanted.shape, np.int64)
        # the run of equal ratios that ``wanted`` ends in lies between the two counts that can be had
        edge = self.values[np.maximum(np.ceil(wanted).astype(np.int64), 1) - 1]
        upper = self.size - np.searchsorted(self._rising, edge, side="left")
        lower = np.maximum(self.size - np.searchsorted(self._rising, edge, side="right"), self.infinite)
        found: NDArray[np.int64] = np.where(upper - wanted <= wanted - lower, upper, lower)
        return found

    def _between(self, count: NDArray[np.int64]) -> NDArray[np.float64]:
        if not self.positive:
            return np.ones(count.shape)
        last = self.values[np.clip(count - 1, 0, self.size - 1)].astype(np.float64)
        following = self.values[np.clip(count, 0, self.size - 1)].astype(np.float64)
        above = np.where(count == 0, 4 * following, np.where(np.isinf(last), 4 * np.maximum(following, 1), last))
        below = np.where(count >= self.positive, last / 4, following)
        below = np.where(np.isinf(below), 1.0, below)
        middle = np.sqrt(np.maximum(above, _SMALLEST)) * np.sqrt(np.maximum(below, _SMALLEST))
        # neighbours that touch in floating point: the lower one itself is not selected
        return np.where((middle >= above) | (middle < below), np.maximum(below, _SMALLEST), middle)


def positive(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """``value`` as float64. Raises ConfigError unless all of it is above 0 and finite."""
    array = np.asarray(value, np.float64)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ConfigError(f"{name} must be positive and finite, got {value!r}", todo="choose a value above 0")
    return array


def ratio_of(f: NDArray[np.floating], o: NDArray[np.floating]) -> NDArray[np.floating]:
    """r = f / o; inf where o = 0 < f, 0 where f = 0."""
    found: NDArray[np.floating] = ratio(torch.from_numpy(f), torch.from_numpy(o)).numpy()
    return found


def _check_diagonals(f: NDArray[np.floating], o: NDArray[np.floating]) -> None:
    if f.shape != o.shape or f.ndim != 1:
        raise DataError(f"Fisher diagonals of shapes {f.shape} and {o.shape}", "ratios", "give two equal (P,) arrays")
    for name, diagonal in (("forget", f), ("denominator", o)):
        # one pass each: min propagates NaN, and a NaN fails both comparisons
        if len(diagonal) and not (diagonal.min() >= 0 and diagonal.max() < np.inf):
            raise DataError(
                f"the {name} Fisher diagonal holds a negative, infinite or missing value",
                todo="look for NaN in the model or the data",
            )
