"""One pass over a sample set: everything that its gradients are needed for, each computed once.

Losses, norms, embeddings and both moments come from all units; rows are kept of at most a given number of them.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdtune.errors import DataError, ModelError
from ssdtune.fisher.diagonal import MomentResult, Moments
from ssdtune.fisher.gradients import GradientBlock, GradientEngine
from ssdtune.fisher.memory import MemoryPlan
from ssdtune.fisher.rows import MemoryRows, SpilledRows
from ssdtune.fisher.units import Units
from ssdtune.progress import Track, in_parts


@dataclass(frozen=True, eq=False)
class SetMoments:
    """What the gradients of one sample set say, over P parameters, without any row.

    diagonal, mean : (P,) float32, the Fisher diagonal and the mean gradient over all units.
    trace : Σ diagonal in float64.
    losses, squared_norms : (units,) float64.
    embeddings : (units, d) float32 bottleneck activations, or None where the model has no bottleneck.
    kept : (n,) numbers of the units whose rows are kept, rising.
    """

    diagonal: NDArray[np.float32]
    mean: NDArray[np.float32]
    trace: float
    losses: NDArray[np.float64]
    squared_norms: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None
    kept: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Rows kept."""
        return len(self.kept)


@dataclass(frozen=True, eq=False)
class GradientSet(SetMoments):
    """The same with the rows that are kept."""

    rows: MemoryRows | SpilledRows


@dataclass(frozen=True, eq=False)
class Gathered:
    """What one pass over some units of a set leaves, as it was summed; see ``SetMoments``."""

    moments: Moments
    losses: NDArray[np.float64]
    squared_norms: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None
    rows: MemoryRows | SpilledRows


def gather(
    engine: GradientEngine, units: Units, kept: NDArray[np.int64], plan: MemoryPlan, keep: bool, name: str, track: Track
) -> GradientSet:
    """Stream the gradients of all ``units`` once; see ``one_pass``.

    Raises
    ------
    DataError : a gradient or loss is not finite (names the sample), or there is no room for rows on the disk.
    ModelError : all gradients are zero, or so small that their squares are.
    """
    found = one_pass(engine, units, kept, plan, keep, name, track)
    result = finish(found.moments, name, engine.task.name)
    return GradientSet(*result, found.losses, found.squared_norms, found.embeddings, kept, found.rows)


def finish(moments: Moments, name: str, task: str) -> MomentResult:
    """The moments of the set ``name``, which are given up. Raises ModelError: all its gradients are zero."""
    result = moments.finish()
    if not result.diagonal.any():
        what = f"all gradients of the {name} set are zero"
        raise ModelError(what, task, "see that the loss depends on the model's parameters")
    return result


def one_pass(
    engine: GradientEngine, units: Units, kept: NDArray[np.int64], plan: MemoryPlan, keep: bool, name: str, track: Track
) -> Gathered:
    """Stream the gradients of all ``units`` once, and sum them.

    kept : numbers of the units whose rows to keep, rising. keep : whether those rows have a place in memory.
    name : of the set, for messages and progress.

    Raises DataError: a gradient or loss is not finite (names the sample), or there is no room for rows on the disk.
    """
    parameters, total = engine.layout.parameters, len(units)
    moments = Moments(parameters, engine.home)
    losses, norms = np.empty(total), np.empty(total)
    embeddings: NDArray[np.float32] | None = None
    rows = MemoryRows(len(kept), parameters, engine.home) if keep else _spilled(len(kept), engine, plan)
    blocks = engine.stream(units)
    for block in in_parts(blocks, lambda each: len(each.numbers), f"gradients of the {name} set", total, track):
        numbers = np.array(block.numbers)
        losses[numbers], norms[numbers] = block.losses, moments.add(block.rows).numpy()
        if not np.isfinite(losses[numbers] + norms[numbers]).all():
            _refuse_non_finite(units, name, block, norms)
        if block.embeddings is not None:
            embeddings = np.zeros((total, block.embeddings.shape[1]), np.float32) if embeddings is None else embeddings
            embeddings[numbers] = block.embeddings
        wanted = np.isin(numbers, kept)
        rows.append(block.rows if wanted.all() else block.rows[np.flatnonzero(wanted)])
    engine.release()
    return Gathered(moments, losses, norms, embeddings, rows)


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


def _spilled(n: int, engine: GradientEngine, plan: MemoryPlan) -> SpilledRows:
    folder, parameters = spill_folder(), engine.layout.parameters
    try:
        return SpilledRows(n, parameters, engine.home, folder, plan.view)
    except OSError as reason:
        what = f"no room for {4 * n * parameters / 2**30:.2g} GiB of gradients ({reason.strerror})"
        raise DataError(what, folder, "set TMPDIR to a folder with room, or raise the memory budget") from reason


def _refuse_non_finite(units: Units, name: str, block: GradientBlock, norms: NDArray[np.float64]) -> None:
    for number, loss in zip(block.numbers, block.losses, strict=True):
        if not (np.isfinite(loss) and np.isfinite(norms[number])):
            what = f"the {'loss' if not np.isfinite(loss) else 'gradient'} of {name} sample {units.name(number)}"
            raise DataError(f"{what} is not finite", "", "look for NaN in the data, or leave the sample out")
