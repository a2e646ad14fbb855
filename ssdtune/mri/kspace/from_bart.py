"""BART's arrays: a ``.hdr`` with the sizes of up to 16 dimensions, and a ``.cfl`` of complex64, the first one fastest.

Read are READ (0), PHS1 (1), COIL (3) and SLICE (13) as (slices, coils, kx, ky), rows along the readout; AVG (14) is
averaged. BART's transform is fastMRI's: centred, and inverse from k-space to image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssdtune.errors import DataError
from ssdtune.mri.kspace.write import Measured, ismrmrd_header

# bart/src/misc/mri.h
_NAMES = (
    "READ", "PHS1", "PHS2", "COIL", "MAPS", "TE", "COEFF", "COEFF2", "ITER", "CSHIFT", "TIME", "TIME2", "LEVEL",
    "SLICE", "AVG", "BATCH",
)  # fmt: skip
_READ, _PHS1, _COIL, _SLICE, _AVG = 0, 1, 3, 13, 14


def read_bart(path: Path) -> Measured:
    """K-space of ``path`` (.cfl or .hdr, its other half beside it); the files tell no size in mm, so pixels are 1 mm.

    Lines of zeros at both ends count as never measured.

    Raises
    ------
    DataError : a missing or damaged half, a dimension besides those above, or lines of zeros between others.
    """
    header, values = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    dims = _dimensions(header)
    try:
        raw = np.fromfile(values, np.complex64)
    except OSError as reason:
        raise DataError(f"cannot read ({reason.strerror})", values, "keep .cfl and .hdr side by side") from reason
    if raw.size != np.prod(dims):
        what = f"holds {raw.size} numbers, the .hdr says {' x '.join(map(str, dims))}"
        raise DataError(what, values, "copy both halves again")
    kept = (_READ, _PHS1, _COIL, _SLICE, _AVG)
    for number, size in enumerate(dims):
        if size > 1 and number not in kept:
            name = f"{_NAMES[number]} " if number < len(_NAMES) else ""
            what = f"dimension {name}({number}) is {size}, not 1"
            raise DataError(what, header, "only 2-D scans are converted: take one out by 'bart slice', or transpose")
    array = raw.reshape([dims[number] for number in kept], order="F").transpose(3, 4, 2, 0, 1)
    measured = (array != 0).any(axis=(2, 3))  # (slices, averages, columns)
    columns = np.flatnonzero(measured.any(axis=(0, 1)))
    if not columns.size:
        raise DataError("the k-space is all zero", values, "leave the file out")
    first, end = int(columns[0]), int(columns[-1]) + 1
    for number, found in enumerate(measured[..., first:end].all(axis=1).sum(axis=-1)):
        if found < end - first:
            what = f"slice {number} has {found} of {end - first} lines"
            raise DataError(what, values, "only fully sampled scans are converted")
    kspace = np.ascontiguousarray(array.mean(axis=1, dtype=np.complex64))
    xml = ismrmrd_header(kspace.shape, (1.0, 1.0, 1.0), (first, end))
    return Measured(kspace, xml, (dims[_READ], dims[_PHS1]), "UNKNOWN", "")


def _dimensions(header: Path) -> list[int]:
    try:
        lines = header.read_text("utf-8", "replace").splitlines()
    except OSError as reason:
        raise DataError(f"cannot read ({reason.strerror})", header, "keep .cfl and .hdr side by side") from reason
    try:
        dims = [int(word) for word in lines[lines.index("# Dimensions") + 1].split()]
    except (ValueError, IndexError):
        dims = []
    if not dims or min(dims) < 1:
        raise DataError("no dimensions", header, "it is not a header of BART")
    return dims + [1] * (len(_NAMES) - len(dims))
