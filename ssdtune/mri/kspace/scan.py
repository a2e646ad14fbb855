"""One pass over the slices of a file: content ids, broken values, and whether targets belong to the k-space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ssdtune.files import content_hash
from ssdtune.mri.kspace.fourier import root_sum_of_squares

if TYPE_CHECKING:
    import h5py

Fault = tuple[str, str]
"""(what is wrong, what to do)."""


@dataclass
class Scan:
    """What the slices of one dataset hold, seen one at a time; ``name`` is what messages call it."""

    name: str
    ids: list[str] = field(default_factory=list)
    nan: int = 0
    top: float = 0.0
    faults: list[Fault] = field(default_factory=list)

    def add(self, values: np.ndarray) -> None:
        """Take in the next slice; only the first broken and the first empty slice become faults."""
        number = len(self.ids)
        self.ids.append(content_id(values))
        broken = values.size - int(np.count_nonzero(np.isfinite(values)))
        if broken:
            if not self.nan:
                self.faults.append((f"NaN or Inf in {self.name}, slice {number}", "repair the file or leave it out"))
            self.nan += broken
            return
        top = float(np.abs(values).max())
        if top == 0:
            self.faults.append((f"{self.name} of slice {number} is all zero", "leave the slice or the file out"))
        self.top = max(self.top, top)


def content_id(values: np.ndarray) -> str:
    """Hash of one slice's shape and values, as complex64 or float32."""
    kind = "<c8" if np.iscomplexobj(values) else "<f4"
    values = np.ascontiguousarray(values, dtype=kind)
    return content_hash((f"{kind}{values.shape}", values.reshape(-1).view(np.uint8).data))


def scan_targets(dataset: h5py.Dataset, name: str) -> Scan:
    """Scan a dataset (slices, h, w), one slice in memory at a time."""
    scan = Scan(name)
    for number in range(len(dataset)):
        scan.add(dataset[number])
    return scan


def scan_kspace(kspace: h5py.Dataset, targets: h5py.Dataset, compare: bool) -> tuple[Scan, float | None]:
    """Scan k-space (slices, coils, ky, kx) and, if asked to, compare it with ``targets`` (slices, h, w).

    The second value is the relative L2 distance between the targets and the centre of the root sum of squares of the
    coil images, over all slices; None where nothing was or could be compared.
    """
    scan = Scan("k-space")
    error = energy = 0.0
    for number in range(len(kspace)):
        values = kspace[number]
        scan.add(values)
        if compare and not scan.nan:
            target = targets[number].astype(np.float64)
            error += float(np.square(_centre(root_sum_of_squares(values), target.shape) - target).sum())
            energy += float(np.square(target).sum())
    return scan, float(np.sqrt(error / energy)) if energy > 0 and np.isfinite(error) and not scan.nan else None


def _centre(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    top, left = ((side - kept) // 2 for side, kept in zip(image.shape, size, strict=True))
    return image[top : top + size[0], left : left + size[1]]
