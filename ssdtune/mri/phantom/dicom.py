"""Magnitude images from a folder of one DICOM series, in the order of their positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdtune.errors import DataError, check_installed
from ssdtune.mri.phantom.images import Images

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".ima")
_PLANES = ("sagittal", "coronal", "axial")  # along the axes of the patient: left, posterior, superior
_CLOSE_MM = 1e-3


def open_dicom(path: Path) -> Images:
    """The series in a folder, or one file, with rescale slope and intercept applied; shown as stored.

    Slices are sorted along their normal, by ``InstanceNumber`` where files state no position. Other files are passed
    over. The subject is ``PatientID``, else the folder's name.

    Raises
    ------
    ConfigError : pydicom is missing.
    DataError : no image, several series, sizes or directions, two images at one position, several frames in a file,
        colours, or pixels that cannot be decoded.
    """
    check_installed("pydicom", "images", path)
    found = _headers(path)
    if not found:
        raise DataError("no DICOM images", path, "name a folder of one DICOM series, an HDF5 file or a NIfTI file")
    for what, values in (
        ("series", {str(head.get("SeriesInstanceUID", "")) for _, head in found}),
        ("sizes", {(head.Rows, head.Columns) for _, head in found}),
        ("directions", {tuple(np.round(_numbers(head, "ImageOrientationPatient"), 3)) for _, head in found}),
    ):
        if len(values) > 1:
            raise DataError(f"{len(values)} {what} of images", path, "put one series alone into a folder")
    for file, head in found:
        if int(head.get("NumberOfFrames") or 1) != 1 or int(head.get("SamplesPerPixel", 1)) != 1:
            raise DataError("several frames or colours", file, "give files of one grey image each")
    places, plane = _places(path, [head for _, head in found])
    order = np.argsort(places, kind="stable")
    gaps = np.diff(np.sort(places))
    if plane and gaps.size and gaps.min() < _CLOSE_MM:
        raise DataError("two images at one position", path, "put one contrast, echo or repetition alone into a folder")
    files = [found[index][0] for index in order]
    first = found[order[0]][1]
    spacing = _numbers(first, "PixelSpacing")
    voxel = (*spacing, float(np.median(gaps)) if plane and gaps.size else float(first.get("SliceThickness") or 1))
    name = str(first.get("ProtocolName") or first.get("SeriesDescription") or "UNKNOWN")
    how = f"{plane} slices in the order of their positions" if plane else "slices in the order of InstanceNumber"
    return Images(
        path,
        len(files),
        (int(first.Rows), int(first.Columns)),
        "_".join(name.split()),
        lambda start, count: np.stack([_pixels(file) for file in files[start : start + count]]),
        voxel_mm=(voxel[0], voxel[1], voxel[2]) if len(spacing) == 2 and min(voxel) > 0 else None,
        subject=str(first.get("PatientID") or path.absolute().stem),
        orientation=f"{how}, rows and columns as stored",
    )


def _headers(path: Path) -> list[tuple[Path, Dataset]]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    found = []
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if not file.is_file() or file.name.startswith("."):
            continue
        try:
            head = dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        except Exception as reason:  # damaged bytes raise nearly anything
            raise DataError(f"damaged DICOM file ({_first_line(reason)})", file, "copy it again") from reason
        if "Rows" in head and "Columns" in head:
            found.append((file, head))
    return found


def _places(path: Path, heads: Sequence[Dataset]) -> tuple[list[float], str]:
    """Where each image lies along the slices' normal in mm, and their plane; instance numbers and "" if none says."""
    positions = [_numbers(head, "ImagePositionPatient") for head in heads]
    direction = _numbers(heads[0], "ImageOrientationPatient")
    if len(direction) == 6 and all(len(position) == 3 for position in positions):
        normal = np.cross(direction[:3], direction[3:])
        return [float(normal @ position) for position in positions], _PLANES[int(np.abs(normal).argmax())]
    numbers = [head.get("InstanceNumber") for head in heads]
    if len(heads) > 1 and (None in numbers or len(set(numbers)) < len(numbers)):
        raise DataError("images without position and number", path, "export the series again")
    return [float(number or 0) for number in numbers], ""


def _pixels(file: Path) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut

    try:
        head = dcmread(file)
        return np.asarray(apply_modality_lut(head.pixel_array, head))
    except Exception as reason:  # decoders raise nearly anything
        what = f"the pixels cannot be read ({_first_line(reason)})"
        raise DataError(what, file, "decompress it: gdcmconv --raw, or pip install pylibjpeg") from reason


def _numbers(head: Dataset, key: str) -> list[float]:
    value: Any = head.get(key)
    return [] if value is None else [float(number) for number in value]


def _first_line(reason: BaseException) -> str:
    return (str(reason) or type(reason).__name__).splitlines()[0][:100]
