"""One pass over the slices of a file: content ids, broken values, and whether targets belong to the k-space."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ssdtune.files import content_hash
from ssdtune.mri.kspace.fourier import root_sum_of_squares

if TYPE_CHECKING:
    import h5py

Fault = tuple[str, str]
"""(what is wrong, what to do)."""

# stands for the content of a slice that was not read
UNREAD = ""

# squares of what is smaller or larger, summed over an image, leave the range of float32
LEAST, MOST = 1e-16, 1e16


@dataclass
class Scan:
    """What the slices of one dataset hold, seen one at a time; ``name`` is what messages call it.

    broken : the slices that cannot be used, and why.
    """

    name: str
    ids: list[str] = field(default_factory=list)
    nan: int = 0
    top: float = 0.0
    broken: dict[int, Fault] = field(default_factory=dict)

    def add(self, values: np.ndarray) -> None:
        """Take in the next slice, (h, w) or (coils, ky, kx)."""
        number = len(self.ids)
        self.ids.append(content_id(values))
        nan = values.size - int(np.count_nonzero(np.isfinite(values)))
        self.nan += nan
        fault = (f"NaN or Inf in {self.name}, slice {number}", "repair the file or leave it out") if nan else None
        if fault is None:
            top = float(np.abs(values).max())
            self.top = max(self.top, top)
            fault = self._too_faint(values, number, top)
        if fault is not None:
            self.broken[number] = fault

    def _too_faint(self, values: np.ndarray, number: int, top: float) -> Fault | None:
        if top == 0:
            return f"{self.name} of slice {number} is all zero", "leave the slice or the file out"
        if not LEAST < top < MOST:
            return f"{self.name} of slice {number} reaches {top:.3g} only", "scale k-space and targets to about 1"
        if values.ndim == 3:
            # a sensitivity map is estimated from each coil's centre; of nothing it is 0 / 0
            quiet = np.abs(values[..., values.shape[-1] // 2]).max(axis=-1) < LEAST
            if quiet.any():
                what = f"coil {int(quiet.argmax())} of slice {number} has no signal in the middle line of k-space"
                return what, "leave the coil out of the file, or the file out"
        return None


def content_id(values: np.ndarray) -> str:
    """Hash of one slice's shape and values, as complex64 or float32."""
    kind = "<c8" if np.iscomplexobj(values) else "<f4"
    values = np.ascontiguousarray(values, dtype=kind)
    return content_hash((f"{kind}{values.shape}", values.reshape(-1).view(np.uint8).data))


def scan_targets(dataset: h5py.Dataset, name: str, only: Container[int] | None = None) -> Scan:
    """Scan a dataset (slices, h, w), one slice in memory at a time; ``only`` some of them if given."""
    scan = Scan(name)
    for number in range(len(dataset)):
        if only is None or number in only:
            scan.add(dataset[number])
        else:
            scan.ids.append(UNREAD)
    return scan


def scan_kspace(
    kspace: h5py.Dataset, targets: h5py.Dataset, compare: bool, only: Container[int] | None = None
) -> tuple[Scan, float | None]:
    """Scan k-space (slices, coils, ky, kx) or (slices, ky, kx); ``compare`` it with ``targets`` (slices, h, w).

    The second value is the relative L2 distance between the targets and the root sum of squares of the coil images,
    both cut to the smaller size around the centre, over all sound slices; None where nothing was or could be compared.
    """
    scan = Scan("k-space")
    error = energy = 0.0
    for number in range(len(kspace)):
        if only is not None and number not in only:
            scan.ids.append(UNREAD)
            continue
        values = coil_images(kspace[number])
        scan.add(values)
        if compare and number not in scan.broken:
            image, target = root_sum_of_squares(values), targets[number].astype(np.float64)
            size = [min(pair) for pair in zip(image.shape, target.shape, strict=True)]
            target = center_crop(target, size)
            error += float(np.square(center_crop(image, size) - target).sum())
            energy += float(np.square(target).sum())
    return scan, float(np.sqrt(error / energy)) if energy > 0 and np.isfinite(error) else None


def coil_images(values: np.ndarray) -> np.ndarray:
    """One slice's k-space as (coils, ky, kx) complex64; single-coil files have no axis of coils."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is found so
        return np.asarray(values if values.ndim == 3 else values[None], np.complex64)


def center_crop(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The centre of an image (..., h, w), cut where fastMRI cuts it."""
    top, left = ((side - kept) // 2 for side, kept in zip(image.shape[-2:], size, strict=True))
    return image[..., top : top + size[0], left : left + size[1]]
