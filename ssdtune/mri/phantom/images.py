"""Real magnitude images to simulate from, and those of an HDF5 file with a dataset ``images`` (n, h, w)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ssdtune.errors import DataError
from ssdtune.files import opened_hdf5
from ssdtune.mri.kspace.attributes import subject

DATASET = "images"


@dataclass(frozen=True)
class Images:
    """What there is to see; ``load(start, count)`` reads images when asked for.

    voxel_mm : height, width and distance of slices, where they are known. subject : of all images, where it is known.
    orientation : how the images lie, in words.
    """

    path: Path
    count: int
    size: tuple[int, int]
    acquisition: str
    load: Callable[[int, int], np.ndarray]
    voxel_mm: tuple[float, float, float] | None = None
    subject: str | None = None
    orientation: str = ""

    @property
    def name(self) -> str:
        """The file's or the folder's name without its suffix."""
        name = self.path.absolute().name
        return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else Path(name).stem

    def read(self, start: int, count: int) -> np.ndarray:
        """Images ``start`` to ``start + count``, (count, h, w) float32, not negative.

        Raises DataError: an image holds NaN or Inf, or all of them are empty.
        """
        images = self.load(start, count).astype(np.float32)
        where = f"{self.path}, images {start} to {start + count - 1}"
        if not np.isfinite(images).all():
            raise DataError("NaN or Inf in the images", where, "repair the file, or choose others with --first")
        if images.max() <= 0:
            raise DataError("the images are empty", where, "choose others with --first")
        return np.maximum(images, 0)


def open_hdf5_images(path: Path) -> Images:
    """Look into an HDF5 file of images; its attributes ``contrast`` and ``patient_id`` are read, if there are some.

    Raises DataError: not HDF5, no dataset ``images``, or not real numbers (n, h, w) with n > 0.
    """
    with opened_hdf5(path) as file:
        dataset = file.get(DATASET)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"no dataset '{DATASET}'", path, f"store magnitude images (n, h, w) as '{DATASET}'")
        shape, kind = dataset.shape, dataset.dtype.kind
        stated = subject(file.attrs) or None
        contrast = "_".join(str(file.attrs.get("contrast", "unknown")).upper().split())
    if len(shape) != 3 or kind not in "fiu" or 0 in shape:
        raise DataError(f"'{DATASET}' is {kind}{shape}", path, "store real magnitude images (n, h, w)")

    def load(start: int, count: int) -> np.ndarray:
        with h5py.File(path) as file:
            images: np.ndarray = file[DATASET][start : start + count]
        return images

    return Images(
        path, shape[0], shape[1:], f"AX{contrast}" if contrast != "UNKNOWN" else contrast, load, subject=stated
    )
