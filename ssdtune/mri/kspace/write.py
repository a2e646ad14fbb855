"""Writing one volume in fastMRI's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ssdtune.files import atomic_path, new_hdf5
from ssdtune.mri.kspace.look import CLEAN_MAX, CLEAN_TARGET, HEADER, KSPACE, TARGET, TARGET_MAX

# the hydrogen frequency at 3 T, for which tissues are simulated
FREQUENCY_HZ = 127_740_000

_HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <acquisitionSystemInformation><receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>{frequency}</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>{space}</encodedSpace>
    <reconSpace>{space}</reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{center}</center></kspace_encoding_step_1>
      <slice><minimum>0</minimum><maximum>{last_slice}</maximum><center>{center_slice}</center></slice>
    </encodingLimits>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>
"""
_SPACE = (
    "<matrixSize><x>{h}</x><y>{w}</y><z>1</z></matrixSize>"
    "<fieldOfView_mm><x>{fov_h:.4g}</x><y>{fov_w:.4g}</y><z>{thickness:.4g}</z></fieldOfView_mm>"
)


@dataclass(frozen=True)
class Measured:
    """A scan of another format: ``kspace`` (slices, coils, kx, ky), its header, and the size (h, w) of its target."""

    kspace: np.ndarray
    header: str
    target_size: tuple[int, int]
    acquisition: str
    subject: str


def ismrmrd_header(
    shape: tuple[int, ...], voxel_mm: tuple[float, float, float], measured: tuple[int, int] | None = None
) -> str:
    """ISMRMRD header (XML) of fully sampled k-space (slices, coils, ky, kx); voxels (height, width, thickness) in mm.

    As in fastMRI's files, x is the readout (rows) and y the phase encoding (columns, the axis that masks undersample);
    the columns from the first of ``measured`` to before its second were measured, or all.
    """
    slices, coils, h, w = shape
    first, end = measured or (0, w)
    tall, wide, thickness = voxel_mm
    return _HEADER.format(
        coils=coils,
        frequency=FREQUENCY_HZ,
        space=_SPACE.format(h=h, w=w, fov_h=h * tall, fov_w=w * wide, thickness=thickness),
        last=end - first - 1,
        center=w // 2 - first,
        last_slice=slices - 1,
        center_slice=slices // 2,
    )


def write_volume(
    path: Path | str,
    kspace: np.ndarray,
    target: np.ndarray,
    *,
    acquisition: str = "UNKNOWN",
    voxel_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    clean: np.ndarray | None = None,
    header: str | None = None,
    subject: str | None = None,
) -> None:
    """Write ``path`` whole or not at all; ``fastmri.data.mri_data.SliceDataset`` reads it as it is.

    Parameters
    ----------
    kspace : (slices, coils, ky, kx), stored as complex64.
    target : (slices, h, w), stored as float32 ``reconstruction_rss``; attributes ``max`` and ``norm`` are its own.
    acquisition : fastMRI's name of the kind of scan, e.g. "AXT1".
    voxel_mm : height, width and thickness of a voxel in mm.
    clean : the target before it was corrupted, if it was; kept as ``reconstruction_rss_clean`` with ``max_clean``.
    header : instead of one made up from ``voxel_mm``. subject : ``patient_id``, instead of the file's name.

    Raises
    ------
    DataError : the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    with atomic_path(path) as temporary, new_hdf5(temporary) as file:
        file[KSPACE] = np.asarray(kspace, np.complex64)
        file[HEADER] = ismrmrd_header(kspace.shape, voxel_mm) if header is None else header
        file.attrs["acquisition"] = acquisition
        file.attrs["patient_id"] = path.stem if subject is None else subject
        write_target(file, np.asarray(target, np.float32), clean)


def write_target(file: h5py.File, target: np.ndarray, clean: np.ndarray | None = None, key: str = TARGET) -> None:
    """Put targets (slices, h, w) and what follows from them into an open file that has none yet."""
    file[key] = target
    file.attrs[TARGET_MAX] = float(target.max())
    file.attrs["norm"] = float(np.linalg.norm(target))
    if clean is not None:
        file[CLEAN_TARGET] = np.asarray(clean, np.float32)
        file.attrs[CLEAN_MAX] = float(clean.max())
