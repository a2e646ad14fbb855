"""One pass over a sample set: everything that its gradients are needed for, each computed once.

Losses, norms, embeddings and both moments come from all units; rows are kept of at most a given number of them.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdtune.errors import DataError
from ssdtune.fisher.diagonal import Moments
from ssdtune.fisher.gradients import GradientBlock, GradientEngine
from ssdtune.fisher.memory import MemoryPlan
from ssdtune.fisher.rows import MemoryRows, RecomputedRows, Rows, SpilledRows
from ssdtune.fisher.units import Units
from ssdtune.progress import Track

_MEASURED = 8  # rows written before disk and engine are compared


@dataclass(frozen=True, eq=False)
class GradientSet:
    """What the gradients of one sample set say, over P parameters.

    Parameters
    ----------
    diagonal, mean : (P,) float32, the Fisher diagonal and the mean gradient over all units.
    trace, mean_square : Σ diagonal and |mean|² in float64.
    losses, squared_norms : (units,) float64.
    embeddings : (units, d) float32 bottleneck activations, or None where the model has no bottleneck.
    kept : (n,) numbers of the units whose rows are kept, rising. rows : those rows.
    note : how they are kept, and the measured times that decided it.
    """

    diagonal: NDArray[np.float32]
    mean: NDArray[np.float32]
    trace: float
    mean_square: float
    losses: NDArray[np.float64]
    squared_norms: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None
    kept: NDArray[np.int64]
    rows: Rows
    note: str

    @property
    def n(self) -> int:
        """Rows kept."""
        return len(self.kept)

    @property
    def parameters(self) -> int:
        return len(self.diagonal)


def gather(
    engine: GradientEngine, units: Units, kept: NDArray[np.int64], plan: MemoryPlan, keep: bool, name: str, track: Track
) -> GradientSet:
    """Stream the gradients of all ``units`` once.

    kept : numbers of the units whose rows to keep, rising. keep : whether those rows have a place in memory.
    name : of the set, for messages and progress.

    Raises
    ------
    DataError : a gradient or loss is not finite; names the sample.
    """
    parameters, total = engine.layout.parameters, len(units)
    moments = Moments(parameters, engine.home)
    losses, norms = np.empty(total), np.empty(total)
    embeddings: NDArray[np.float32] | None = None
    store = _Store(engine, units, kept, plan, keep)
    ticks = iter(track(range(total), f"gradients of the {name} set", total))
    for block in engine.stream(units):
        numbers = np.array(block.numbers)
        losses[numbers], norms[numbers] = block.losses, moments.add(block.rows).numpy()
        if not np.isfinite(losses[numbers] + norms[numbers]).all():
            _refuse_non_finite(units, name, block, norms)
        if block.embeddings is not None:
            embeddings = np.zeros((total, block.embeddings.shape[1]), np.float32) if embeddings is None else embeddings
            embeddings[numbers] = block.embeddings
        store.take(numbers, block)
        for _ in numbers:
            next(ticks, None)
    next(ticks, None)  # lets the bar finish
    engine.release()
    result = moments.finish()
    return GradientSet(*result, losses, norms, embeddings, kept, store.rows, store.note)


def evenly_spaced(total: int, number: int) -> NDArray[np.int64]:
    """At most ``number`` of ``total`` units, spread over the whole set."""
    if total <= number:
        return np.arange(total)
    return np.unique(np.linspace(0, total - 1, number).round().astype(np.int64))


def spill_folder() -> Path:
    """``TMPDIR`` if it is set, else /var/tmp, which is on a disk where /tmp may be memory."""
    disk = Path("/var/tmp")
    if "TMPDIR" not in os.environ and os.access(disk, os.W_OK):
        return disk
    return Path(tempfile.gettempdir())


class _Store:
    """Puts wanted rows where they belong; decides between disk and computing them again once both are measured."""

    def __init__(
        self, engine: GradientEngine, units: Units, kept: NDArray[np.int64], plan: MemoryPlan, keep: bool
    ) -> None:
        self._engine, self._units, self._kept, self._plan = engine, units, kept, plan
        self._open = True
        self.rows: MemoryRows | SpilledRows | RecomputedRows
        if keep:
            self.rows, self.note = MemoryRows(len(kept), engine.layout.parameters, engine.home), "memory"
            return
        try:
            self.rows = SpilledRows(len(kept), engine.layout.parameters, engine.home, spill_folder(), plan.view)
            self.note = "disk"
        except OSError as reason:
            self._recompute(f"no disk space: {reason.strerror}")

    def take(self, numbers: NDArray[np.int64], block: GradientBlock) -> None:
        """Keep the wanted rows of a block."""
        if isinstance(self.rows, RecomputedRows):
            return
        wanted = np.isin(numbers, self._kept)
        rows = block.rows if wanted.all() else block.rows[np.flatnonzero(wanted)]
        if isinstance(self.rows, MemoryRows):
            self.rows.append(rows)
            return
        self.rows.append(rows, wait=self._open)
        if self._open and self.rows.filled >= _MEASURED:
            self._decide(self.rows)

    def _decide(self, rows: SpilledRows) -> None:
        self._open = False
        size = 4 * len(rows) * rows.parameters
        passes = math.ceil(size / max(self._plan.view, 1)) + 1  # columns for the Gram matrix, rows for the tables
        again, disk = passes * self._engine.seconds_per_gradient, 3 * rows.seconds_per_row  # write, and read twice
        times = f"a row takes {1e3 * disk:.3g} ms on disk, {1e3 * again:.3g} ms to compute {passes} times"
        self.note = f"disk: {times}"
        if again < disk:
            rows.close()
            self._recompute(times)

    def _recompute(self, why: str) -> None:
        wanted = self._units.only([int(number) for number in self._kept])
        self.rows = RecomputedRows(self._engine, wanted, self._plan.view)
        self.note = f"recomputed: {why}"


def _refuse_non_finite(units: Units, name: str, block: GradientBlock, norms: NDArray[np.float64]) -> None:
    for number, loss in zip(block.numbers, block.losses, strict=True):
        if not (np.isfinite(loss) and np.isfinite(norms[number])):
            what = f"the {'loss' if not np.isfinite(loss) else 'gradient'} of {name} sample {units.name(number)}"
            raise DataError(f"{what} is not finite", "", "look for NaN in the data, or leave the sample out")
