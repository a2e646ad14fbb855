"""Gradient rows, kept where they fit: in memory, in a memory-mapped temporary file, or computed anew when asked for.

All three give the same two views of the (n, P) float32 matrix: stretches of columns of every row (for Gram matrices)
and blocks of whole rows (for damage tables and Fisher-vector products).
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.units import Units
from ssdtune.progress import Track

_BLOCK = 16  # rows in memory to hand over at a time


class Rows(Protocol):
    """n gradient rows of P parameters.

    kind : ``"memory"``, ``"disk"`` or ``"recomputed"``. width : columns to ask for at a time.
    """

    kind: str
    width: int

    def __len__(self) -> int: ...

    @property
    def parameters(self) -> int: ...

    def columns(self, place: slice) -> Tensor:
        """(n, w) float32 on the engine's ``home``; not to be written to."""
        ...

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """(row slice, (k, P) float32 on the engine's ``home``), in order; not to be written to or kept."""
        ...


class MemoryRows:
    """Rows held on a device."""

    kind = "memory"

    def __init__(self, n: int, parameters: int, device: torch.device | str = "cpu") -> None:
        self.values = torch.empty(n, parameters, device=device)
        self.width = max(parameters, 1)
        self.filled = 0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def parameters(self) -> int:
        return self.values.shape[1]

    def append(self, rows: Tensor) -> None:
        """Copy the next rows in."""
        self.values[self.filled : self.filled + len(rows)] = rows
        self.filled += len(rows)

    def columns(self, place: slice) -> Tensor:
        return self.values[:, place]

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self), _BLOCK):
            place = slice(start, min(start + _BLOCK, len(self)))
            yield place, self.values[place]


class SpilledRows:
    """Rows in an unnamed temporary file, mapped into memory; pages are let go after each use.

    folder : where the file lies; it vanishes with the process. work : bytes of memory for one view.

    Raises
    ------
    OSError : no room for the file (its whole size is claimed at once).
    """

    kind = "disk"

    def __init__(self, n: int, parameters: int, device: torch.device | str, folder: Path, work: float) -> None:
        self._shape, self._device, self.filled = (n, parameters), device, 0  # filled: rows appended so far
        size = 4 * n * parameters
        with tempfile.TemporaryFile(dir=folder, prefix="ssdtune-") as file:
            # claimed now: a full disk would otherwise kill the process when it writes to the map
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._rows_at_once = int(max(1, work // (8 * parameters)))  # the last view may still be held
        self.width = int(max(1024, work // (4 * n)))
        self.seconds = 0.0  # spent writing

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def parameters(self) -> int:
        return self._shape[1]

    def append(self, rows: Tensor, wait: bool = False) -> None:
        """Write the next rows; ``wait`` until they are on the disk, so that ``seconds_per_row`` is honest."""
        start = time.perf_counter()
        for row in rows:
            self._values()[self.filled] = row.cpu().numpy()
            self.filled += 1
            self._let_go()
        if wait:
            self._map.flush()
        self.seconds += time.perf_counter() - start

    @property
    def seconds_per_row(self) -> float:
        """Of writing, as measured."""
        return self.seconds / max(self.filled, 1)

    def columns(self, place: slice) -> Tensor:
        found = np.empty((len(self), len(range(*place.indices(self.parameters)))), np.float32)
        for row, values in zip(found, self._values(), strict=True):
            row[:] = values[place]
            self._let_go()
        return torch.from_numpy(found).to(self._device)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self), self._rows_at_once):
            place = slice(start, min(start + self._rows_at_once, len(self)))
            found = np.empty((place.stop - place.start, self.parameters), np.float32)
            for row, values in zip(found, self._values()[place], strict=True):
                row[:] = values
                self._let_go()
            yield place, torch.from_numpy(found).to(self._device)
            del found

    def close(self) -> None:
        """Give the disk space back before the object goes."""
        self._map.close()

    def _values(self) -> np.ndarray:
        return np.frombuffer(self._map, np.float32).reshape(self._shape)

    def _let_go(self) -> None:
        # after every row: the system maps large pages around what is read, far more than asked for
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class RecomputedRows:
    """Rows that are computed again for every view; ``capacity`` bytes hold the columns of one view."""

    kind = "recomputed"

    def __init__(self, engine: GradientEngine, units: Units, capacity: float) -> None:
        self._engine, self._units = engine, units
        self.width = int(max(1024, min(capacity // (4 * max(len(units), 1)), engine.layout.parameters)))

    def __len__(self) -> int:
        return len(self._units)

    @property
    def parameters(self) -> int:
        return self._engine.layout.parameters

    def columns(self, place: slice) -> Tensor:
        width = len(range(*place.indices(self.parameters)))
        found = torch.empty(len(self), width, device=self._engine.home)
        for rows, block in self.blocks():
            found[rows] = block[:, place]
        return found

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        done = 0
        for block in self._engine.stream(self._units):
            yield slice(done, done + len(block.rows)), block.rows
            done += len(block.rows)


def tracked(rows: Rows, description: str, track: Track) -> Iterator[tuple[slice, Tensor]]:
    """``rows.blocks()`` with a progress bar that counts rows."""
    ticks = iter(track(range(len(rows)), description, len(rows)))
    for place, block in rows.blocks():
        yield place, block
        for _ in range(len(block)):
            next(ticks, None)
    next(ticks, None)  # lets the bar finish
