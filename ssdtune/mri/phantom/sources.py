"""Where real magnitude images come from: HDF5, NIfTI, DICOM."""

from __future__ import annotations

from pathlib import Path

from ssdtune.errors import DataError, near_file
from ssdtune.mri.phantom import dicom, nifti
from ssdtune.mri.phantom.images import Images, open_hdf5_images


def open_images(path: Path | str) -> Images:
    """Look into a file of images, or a folder of one DICOM series.

    Raises
    ------
    ConfigError : the package that reads this kind is missing.
    DataError : no such file, an empty folder, or one that the reader of its kind cannot use.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("no such file", path, near_file(path))
    if path.is_dir() and not any(each.is_file() for each in path.iterdir()):
        raise DataError("no files in the folder", path, "put images there, or name another")
    if path.is_dir() or path.suffix.lower() in dicom.SUFFIXES:
        return dicom.open_dicom(path)
    return nifti.open_nifti(path) if path.name.lower().endswith(nifti.SUFFIXES) else open_hdf5_images(path)
