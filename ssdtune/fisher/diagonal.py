"""First and second moments of streamed gradients: the Fisher diagonal, the mean gradient, and each row's norm.

Notation: rows g_i (P,), i = 1..n; diagonal S = (1/n) Σ g_i², mean m = (1/n) Σ g_i, both accumulated in float64. The
published SSD code (Foster et al., AAAI 2024) sums the squared gradient of each mini-batch's mean loss and divides by
the number of mini-batches: the same S over units that are mini-batches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CPU_ENTRIES, _GPU_ENTRIES = 1 << 16, 1 << 24  # float64 entries at a time: half a MiB stays in a core's cache
_ROWS = 64  # at a time; more make the stretches of columns too short


class MomentResult(NamedTuple):
    """S and m, (P,) float32; Σ S in float64."""

    diagonal: NDArray[np.float32]
    mean: NDArray[np.float32]
    trace: float


class Moments:
    """Accumulates rows of P parameters on ``device``; 16 bytes a parameter."""

    def __init__(self, parameters: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self._first = torch.zeros(parameters, dtype=torch.float64, device=device)
        self._second = torch.zeros(parameters, dtype=torch.float64, device=device)

    def add(self, rows: Tensor) -> Tensor:
        """Take in rows (k, P); returns their squared norms (k,) float64 on the CPU, not finite where a row is not."""
        norms = torch.cat([self._add(part) for part in rows.split(_ROWS)])
        self.count += len(rows)
        return norms.cpu()

    def _add(self, rows: Tensor) -> Tensor:
        norms = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        ones = torch.ones(1, len(rows), dtype=torch.float64, device=rows.device)
        entries = _CPU_ENTRIES if rows.device.type == "cpu" else _GPU_ENTRIES
        width = max(1024, entries // max(len(rows), 1))
        for start in range(0, rows.shape[1], width):
            place = slice(start, start + width)
            block = rows[:, place].to(torch.float64, copy=True)
            # a product with ones is the quickest way to sum over few rows
            self._first[place].unsqueeze(0).addmm_(ones, block)
            block.square_()
            self._second[place].unsqueeze(0).addmm_(ones, block)
            norms += block.sum(1)
        return norms

    def sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Σ g and Σ g², (P,) each, for ``merge`` of another part's."""
        return self._first.cpu().numpy(), self._second.cpu().numpy()

    def merge(self, count: int, first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
        """Take in the sums over ``count`` other rows."""
        self.count += count
        for own, other in ((self._first, first), (self._second, second)):
            np.add(own.numpy(), other, out=own.numpy())  # the other may be read-only, which torch warns of

    def finish(self) -> MomentResult:
        """The results, rounded once; the accumulators are given up, so that both are never held in full."""
        count = max(self.count, 1)
        trace = float(self._second.sum()) / count
        diagonal = self._second.div_(count).float().cpu().numpy()
        del self._second
        mean = self._first.div_(count).float().cpu().numpy()
        del self._first
        return MomentResult(diagonal, mean, trace)
