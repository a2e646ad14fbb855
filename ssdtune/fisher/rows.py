"""Gradient rows, kept where they fit: in memory, or in a memory-mapped temporary file.

Both give the same two views of the (n, P) float32 matrix: stretches of columns of every row (for Gram matrices) and
blocks of whole rows (for damage tables and for products with vectors).
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_BLOCK = 16  # rows in memory to hand over at a time


class Rows(Protocol):
    """n gradient rows of P parameters. kind : ``"memory"`` or ``"disk"``. width : columns to ask for at a time."""

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
        self.values = torch.empty(n, parameters, dtype=torch.float32, device=device)
        self.width = max(parameters, 1)
        self.filled = 0

    @classmethod
    def of(cls, values: Tensor) -> MemoryRows:
        """Rows that are there, (n, P) float32, not copied."""
        found = cls(0, 0, values.device)
        found.values, found.width, found.filled = values, max(values.shape[1], 1), len(values)
        return found

    def __len__(self) -> int:
        return len(self.values)

    @property
    def parameters(self) -> int:
        return self.values.shape[1]

    def array(self) -> np.ndarray:
        """(n, P) float32, for writing to a file."""
        return self.values.cpu().numpy()

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

    Raises OSError: no room for the file (its whole size is claimed at once).
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

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def parameters(self) -> int:
        return self._shape[1]

    def array(self) -> np.ndarray:
        """(n, P) float32, mapped; see ``MemoryRows.array``."""
        return self._values()

    def append(self, rows: Tensor) -> None:
        for row in rows:
            self._values()[self.filled] = row.cpu().numpy()
            self.filled += 1
            self._let_go()

    def columns(self, place: slice) -> Tensor:
        return self._copy(slice(None), place)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self), self._rows_at_once):
            place = slice(start, min(start + self._rows_at_once, len(self)))
            yield place, self._copy(place, slice(None))

    def _copy(self, rows: slice, columns: slice) -> Tensor:
        wanted = self._values()[rows, columns]
        found = np.empty(wanted.shape, np.float32)
        for row, values in zip(found, wanted, strict=True):
            row[:] = values
            self._let_go()
        return torch.from_numpy(found).to(self._device)

    def _values(self) -> np.ndarray:
        return np.frombuffer(self._map, np.float32).reshape(self._shape)

    def _let_go(self) -> None:
        # after every row: the system maps large pages around what is read, far more than asked for
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
