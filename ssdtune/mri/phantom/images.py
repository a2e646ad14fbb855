"""Real magnitude images to simulate from: an HDF5 file with a dataset ``images`` (n, h, w)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ssdtune.errors import DataError
from ssdtune.files import opened_hdf5

DATASET = "images"


@dataclass(frozen=True)
class ImageFile:
    """What is in the file; images are read when asked for."""

    path: Path
    count: int
    size: tuple[int, int]
    acquisition: str

    def read(self, start: int, count: int) -> np.ndarray:
        """Images ``start`` to ``start + count``, (count, h, w) float32, not negative.

        Raises DataError: an image holds NaN or Inf, or all of them are empty.
        """
        with h5py.File(self.path) as file:
            images = file[DATASET][start : start + count].astype(np.float32)
        where = f"{self.path}, images {start} to {start + count - 1}"
        if not np.isfinite(images).all():
            raise DataError("NaN or Inf in the images", where, "repair the file, or choose others with --first")
        if images.max() <= 0:
            raise DataError("the images are empty", where, "choose others with --first")
        return np.maximum(images, 0)


def open_images(path: Path | str) -> ImageFile:
    """Look into a file of images; its attribute ``contrast`` names the acquisition, if there is one.

    Raises DataError: no such file, not HDF5, no dataset ``images``, or not real numbers (n, h, w) with n > 0.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", path, "check the path")
    with opened_hdf5(path) as file:
        dataset = file.get(DATASET)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"no dataset '{DATASET}'", path, f"store magnitude images (n, h, w) as '{DATASET}'")
        shape, kind = dataset.shape, dataset.dtype.kind
        contrast = "_".join(str(file.attrs.get("contrast", "unknown")).upper().split())
    if len(shape) != 3 or kind not in "fiu" or 0 in shape:
        raise DataError(f"'{DATASET}' is {kind}{shape}", path, "store real magnitude images (n, h, w)")
    return ImageFile(path, shape[0], shape[1:], f"AX{contrast}" if contrast != "UNKNOWN" else contrast)
