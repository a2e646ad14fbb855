"""Sums over the selected parameters for every per-sample gradient, kept at a few hundred numbers of them.

Notation as in ``sums``; v a row, such as the per-sample gradient g_i.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssdtune.arrays import Array
from ssdtune.fisher.ratios import SortedRatios, ratio_of
from ssdtune.fisher.sums import inverse

_CHUNK = 1 << 15  # parameters at a time through the gradient rows: 512 kB of float64 stay in cache


@dataclass(frozen=True, eq=False)
class RowTables:
    """Sums of v_p theta_p and v_p theta_p q_p over the first k parameters, for rows v (per-sample gradients) and K k's.

    ``v @ delta = lam * shrunk - plain``. At the K ``counts`` the sums are exact; between two of them they
    are linear in k, which takes the parameters of one bin as alike. The default counts are log-spaced, so a bin spans
    ``P ** (1 / K) - 1`` of the selected parameters (3.4 % for P = 30 M, K = 512): the rows of a bin's boundary are off
    by a part of that bin's own share. For P <= K every count is kept and nothing is interpolated.

    counts : (K,) rising numbers of selected parameters; the first is 0.
    plain, shrunk : (n, K) float64 sums for the n rows.
    samples : what a mean over rows divides by; n, unless the rows are projections.
    """

    counts: NDArray[np.int64]
    plain: Array
    shrunk: Array
    samples: int

    @classmethod
    def of(
        cls,
        ratios: SortedRatios,
        theta: NDArray[np.floating],
        blocks: Iterable[tuple[slice, Tensor]],
        samples: int,
        counts: NDArray[np.int64] | None = None,
    ) -> RowTables:
        """One pass over ``blocks`` of (row slice, (rows, P) gradients): about 5 ns an entry on one core, and on the
        GPU where the gradients are there.

        ``counts`` default to ``log_spaced_counts``; 0 and all selectable parameters are always among them.
        """
        knots = knots_of(ratios, counts)
        plain, shrunk = np.zeros((2, samples, len(knots)))
        binner: Bins | _CudaBinner | None = None
        for rows, block in blocks:
            if binner is None:
                on_gpu = block.device.type == "cuda"
                binner = _CudaBinner(ratios, theta, knots, block.device) if on_gpu else Bins.of(ratios, theta, knots)
            plain[rows], shrunk[rows] = binner(block)
        return cls(knots, plain, shrunk, samples)

    def at(self, counts: NDArray[np.int64]) -> tuple[Array, Array]:
        """(plain, shrunk), each (n, len(counts)), over the first ``counts`` parameters."""
        last = len(self.counts) - 1
        left = np.clip(np.searchsorted(self.counts, counts, side="right") - 1, 0, last)
        right = np.minimum(left + 1, last)
        width = np.maximum(self.counts[right] - self.counts[left], 1)
        share = np.clip((counts - self.counts[left]) / width, 0.0, 1.0)
        return _between(self.plain, left, right, share), _between(self.shrunk, left, right, share)

    def project(self, vectors: Array) -> RowTables:
        """Rows combined by orthonormal columns ``vectors`` (n, k) of the sample space.

        With the eigenvectors of the Gram matrix, row j becomes sqrt(n lambda_j) u_j, u_j the unit eigenvector of the
        Fisher information; its quadratic form is then that of the k leading eigenpairs.
        """
        return replace(self, plain=vectors.T @ self.plain, shrunk=vectors.T @ self.shrunk)

    def quadratic(self, counts: NDArray[np.int64]) -> tuple[Array, Array, Array]:
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


def knots_of(ratios: SortedRatios, counts: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The counts that a table is exact at: ``counts`` (default ``log_spaced_counts``), 0 and all selectable ones."""
    total = ratios.positive
    wanted = log_spaced_counts(total) if counts is None else np.clip(counts, 0, total)
    return np.unique(np.append(wanted, [0, total]))


@dataclass(frozen=True, eq=False)
class Bins:
    """Sums up to each knot on the CPU: each parameter's bin is worked out once, then rows are counted into bins.

    numbers : (P,) the bin of each parameter. Bin j holds what knot j adds to knot j - 1; bin 0 is empty, and the last
    one, of number ``knots``, never selected. theta, forget, denominator : (P,), with r = forget / denominator.
    """

    numbers: NDArray[np.unsignedinteger]
    theta: NDArray[np.floating]
    forget: NDArray[np.floating]
    denominator: NDArray[np.floating]
    knots: int

    @classmethod
    def of(cls, ratios: SortedRatios, theta: NDArray[np.floating], knots: NDArray[np.int64]) -> Bins:
        size, count = ratios.block_size, ratios.block_count
        of_block = np.full(count + 1, len(knots), np.min_scalar_type(len(knots) + 1))
        of_block[:count] = np.searchsorted(knots, size * np.arange(count), side="right")
        bins = of_block[ratios.blocks]
        # a knot inside a block parts it
        parted = np.unique(knots[knots % size > 0] // size)
        places = (size * parted[:, None] + np.arange(size)).ravel()
        places = places[places < ratios.positive]
        bins[ratios.order[places]] = np.searchsorted(knots, places, side="right")
        return cls(bins, theta, ratios.forget, ratios.denominator, len(knots))

    def stretch(self, place: slice) -> Bins:
        """Those of some neighbouring parameters; the sums of all stretches add up to those of the whole."""
        return Bins(self.numbers[place], self.theta[place], self.forget[place], self.denominator[place], self.knots)

    def __call__(self, block: Tensor) -> tuple[Array, Array]:
        """(plain, shrunk), each (rows, knots), of rows of gradients (rows, P)."""
        rows = block.cpu().numpy()
        plain, shrunk = np.zeros((2, len(rows), self.knots + 1))
        for start in range(0, rows.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            bins = self.numbers[part].astype(np.intp)
            theta = self.theta[part].astype(np.float64)
            shrunk_theta = theta * inverse(ratio_of(self.forget[part], self.denominator[part]))
            for row, values in enumerate(rows[:, part]):
                plain[row] += np.bincount(bins, values * theta, self.knots + 1)
                shrunk[row] += np.bincount(bins, values * shrunk_theta, self.knots + 1)
        return np.cumsum(plain[:, :-1], axis=1), np.cumsum(shrunk[:, :-1], axis=1)


class _CudaBinner:
    """Sums up to each knot on the GPU, where cumulative sums in falling order of r are quicker than scattered adds."""

    def __init__(
        self, ratios: SortedRatios, theta: NDArray[np.floating], knots: NDArray[np.int64], device: torch.device
    ) -> None:
        order = ratios.order[: ratios.positive].astype(np.int64)
        self._order = torch.from_numpy(order).to(device)
        self._last = torch.from_numpy(knots).to(device)
        self._plain = torch.from_numpy(theta[order].astype(np.float64)).to(device)
        self._shrunk = self._plain * torch.from_numpy(inverse(ratios.values[: ratios.positive])).to(device)

    def __call__(self, block: Tensor) -> tuple[Array, Array]:
        ordered = (row[self._order].double() for row in block)
        sums = [torch.stack([self._up_to(row * self._plain), self._up_to(row * self._shrunk)]) for row in ordered]
        plain, shrunk = torch.stack(sums, dim=1).cpu().numpy()
        return plain, shrunk

    def _up_to(self, terms: Tensor) -> Tensor:
        return torch.nn.functional.pad(torch.cumsum(terms, 0), (1, 0))[self._last]


def _between(table: Array, left: NDArray[np.integer], right: NDArray[np.integer], share: Array) -> Array:
    low = table[:, left]
    return low + share * (table[:, right] - low)
