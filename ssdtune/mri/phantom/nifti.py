"""Magnitude images from a NIfTI file, as a radiologist looks at them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from ssdtune.errors import DataError, check_installed
from ssdtune.mri.phantom.images import Images

SUFFIXES = (".nii", ".nii.gz")

# slices along patient's right-left, posterior-anterior, inferior-superior axis, and how they are shown
_PLANES = (
    "sagittal slices, superior at the top, anterior at the left",
    "coronal slices, superior at the top, the patient's right at the left",
    "axial slices, anterior at the top, the patient's right at the left",
)


def open_nifti(path: Path) -> Images:
    """The volume in a file, scaled as its header says; slices along the axis of the thickest voxels, axial if equal.

    An oblique volume is shown along the nearest axes.

    Raises
    ------
    ConfigError : nibabel is missing.
    DataError : damaged, more than one volume, complex values or colours.
    """
    check_installed("nibabel", "images", path)
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        values = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as reason:
        said = (str(reason) or type(reason).__name__).splitlines()[0]
        raise DataError(f"damaged NIfTI file, or none ({said[:100]})", path, "copy or download it again") from reason
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3 or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise DataError(f"it holds {values.dtype} {values.shape}", path, "store one volume of real magnitudes")
    zooms = [float(side) for side in image.header.get_zooms()[:3]]
    if min(zooms) <= 0:
        raise DataError(f"voxels of {zooms} mm", path, "mend the header")
    axis = 2 if max(zooms) < 1.01 * zooms[2] else int(np.argmax(zooms))
    across, down = (other for other in range(3) if other != axis)
    pictures = values.transpose(axis, down, across)[:, ::-1, ::-1]
    known = any(int(image.header.get(code, 1)) for code in ("qform_code", "sform_code"))
    return Images(
        path,
        pictures.shape[0],
        pictures.shape[1:],
        "UNKNOWN",
        lambda start, count: pictures[start : start + count],
        voxel_mm=(zooms[down], zooms[across], zooms[axis]),
        subject=path.name[: path.name.lower().rindex(".nii")],
        orientation=_PLANES[axis] + ("" if known else " (assumed: the file does not state it)"),
    )
