"""Reconstruct every scored set with given parameters and measure it, slice by slice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssdtune.device import full_precision
from ssdtune.objective.outcome import Columns
from ssdtune.progress import Track, silent
from ssdtune.task import Task, batches, sample_volumes

DEFAULT_BATCH_SIZE = 8


@dataclass(frozen=True)
class Measures:
    """Per-slice measures: ``values[set][measure]`` is a float64 array in the set's order. The first measure is q.

    volumes : means over volumes and their spread, see ``volume_means``.
    """

    values: Columns
    volumes: Mapping[str, float] = field(default_factory=dict)

    def quality(self, name: str) -> float:
        """Mean quality q of one set."""
        return mean(next(iter(self.values[name].values())))

    def summary(self) -> dict[str, float]:
        """Means over slices as ``{set}_{measure}``, and ``volumes``; NaN where a slice was not finite."""
        means = {
            f"{name}_{measure}": mean(column)
            for name, columns in self.values.items()
            for measure, column in columns.items()
        }
        return means | dict(self.volumes)

    @property
    def finite(self) -> bool:
        """Whether every value is finite."""
        return all(np.isfinite(column).all() for columns in self.values.values() for column in columns.values())


def volume_means(task: Task, values: Columns) -> dict[str, float]:
    """Means over volumes as ``{set}_volume_{measure}``, and their standard deviations as ``…_sd``.

    Of tasks whose quality can tell a volume's from its slices' (``by_volume``); a set of one volume has no ``_sd``.
    """
    by_volume: Any = getattr(task.quality, "by_volume", None)
    found: dict[str, float] = {}
    for name, columns in ({} if by_volume is None else values).items():
        for measure, column in by_volume(columns, sample_volumes(task.scored_sets[name])).items():
            found[f"{name}_volume_{measure}"] = mean(column)
            if len(column) > 1:
                spread = float(column.std(ddof=1)) if np.isfinite(column).all() else math.nan
                found[f"{name}_volume_{measure}_sd"] = spread
    return found


@full_precision()
@torch.no_grad()
def evaluate(
    task: Task,
    params: Mapping[str, Tensor] | None = None,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    track: Track = silent,
) -> Measures:
    """Measure the model with ``params`` (None: untouched) on every scored set of the task.

    ``batch_size`` : slices at once. ``track`` : shows progress (``ssdtune.progress``), silent by default.
    Slices stream in their own order; nothing but the measures is kept. A slice whose output is not finite has NaN for
    every measure, whatever the quality function makes of it (an accuracy would not show it).
    """
    values: dict[str, dict[str, np.ndarray]] = {}
    for name, samples in task.scored_sets.items():
        columns: dict[str, np.ndarray] = {}
        for batch in track(batches(samples, batch_size, task.device), name, -(-len(samples) // batch_size)):
            output = task.predict(params, batch.inputs)
            finite = finite_rows(output, len(batch.indices))
            for measure, column in task.measures(output, batch.target).items():
                kept = np.where(finite, column.cpu().double().numpy(), np.nan)
                columns.setdefault(measure, np.full(len(samples), np.nan))[batch.indices] = kept
        values[name] = columns
    return Measures(values, volume_means(task, values))


def mean(column: np.ndarray) -> float:
    """Mean of a column (n,), the same whatever the order of its values; NaN if one is not finite."""
    return math.fsum(column) / len(column) if np.isfinite(column).all() else math.nan


def finite_rows(output: Any, batch: int) -> np.ndarray:
    """(batch,) bool: samples whose output is finite throughout; an output not made of sample rows counts as finite."""
    if not isinstance(output, Tensor) or output.shape[:1] != (batch,):
        return np.ones(batch, dtype=bool)
    return output.isfinite().reshape(batch, -1).all(dim=1).cpu().numpy()
