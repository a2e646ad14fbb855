"""ISMRMRD acquisitions of a fully sampled Cartesian 2-D scan as one array (Inati et al., MRM 77:411, 2017).

Line k of ``kspace_encode_step_1`` goes to column ny // 2 - center + k, as fastMRI reads the encoding limits; columns
outside of them were never measured and stay zero. Readout oversampling (encoded over reconstructed field of view) is
cut off in image space. Averages are averaged as complex numbers. Noise is not whitened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdtune.errors import DataError, check_installed
from ssdtune.files import opened_hdf5
from ssdtune.mri.kspace.fourier import centred, fft2c, ifft2c
from ssdtune.mri.kspace.write import Measured

if TYPE_CHECKING:
    import h5py

# acquisitions that are no lines of the image, by the names of the format's flags
_NO_LINES = (
    "IS_NOISE_MEASUREMENT", "IS_NAVIGATION_DATA", "IS_PHASECORR_DATA", "IS_HPFEEDBACK_DATA", "IS_RTFEEDBACK_DATA",
    "IS_DUMMYSCAN_DATA", "IS_SURFACECOILCORRECTIONSCAN_DATA",
)  # fmt: skip
_ONE_SCAN = ("contrast", "phase", "repetition", "set", "kspace_encode_step_2")
_CHUNK = 256


def ismrmrd_group(file: h5py.File) -> str | None:
    """The name of the group that holds an ISMRMRD header and acquisitions; None in other files."""
    return next((name for name in file if {"xml", "data"} <= set(getattr(file[name], "keys", tuple)())), None)


def read_ismrmrd(path: Path) -> Measured:
    """K-space (slices, coils, kx, ky) of one file, rows along the readout, and its header made to fit.

    Of the subject the header keeps ``patientID`` alone: names and dates of birth do not go on.

    Raises
    ------
    ConfigError : the package ``ismrmrd`` is missing.
    DataError : not a fully sampled Cartesian 2-D scan of one contrast, or damaged.
    """
    check_installed("ismrmrd", "convert", path)
    from ismrmrd.xsd import CreateFromDocument, ToXML, limitType, subjectInformationType

    with opened_hdf5(path) as file:
        group = file[ismrmrd_group(file) or "dataset"]
        try:
            head = CreateFromDocument(group["xml"][0])
            encoding = head.encoding[0]
            nx, ny, nz = (getattr(encoding.encodedSpace.matrixSize, axis) for axis in "xyz")
            trajectory, limits = encoding.trajectory.value, encoding.encodingLimits.kspace_encoding_step_1
            encoded, shown = encoding.encodedSpace.fieldOfView_mm, encoding.reconSpace.fieldOfView_mm
            share = [getattr(shown, axis) / getattr(encoded, axis) for axis in "xy"]
            rows, columns = (max(min(round(n * part), n), 1) for n, part in zip((nx, ny), share, strict=True))
        except Exception as reason:  # whatever an XML parser raises
            said = (str(reason) or type(reason).__name__).splitlines()[0]
            raise DataError(f"the ISMRMRD header cannot be read ({said})", path, "mend the header") from reason
        if trajectory != "cartesian":
            raise _refused(f"the trajectory is {trajectory}", path)
        if nz != 1:
            raise _refused(f"3-D k-space, {nz} second phase encodings", path)
        first, last, center = (limits.minimum, limits.maximum, limits.center) if limits else (0, ny - 1, ny // 2)
        left = ny // 2 - center + first
        if not 0 <= left <= left + last - first < ny:
            raise DataError(f"encoding limits {first} to {last} around {center} do not fit {ny} lines", path, "mend it")
        try:
            kspace = _sorted_lines(path, group["data"], nx, range(first, last + 1), left, ny)
        except (KeyError, ValueError, TypeError) as reason:
            raise DataError("the acquisitions are not in ISMRMRD's form", path, "copy or convert it again") from reason
    if rows < nx:
        kspace = fft2c(centred(ifft2c(kspace), -2, rows)).astype(np.complex64)
        # the transform's rounding is no measurement
        kspace[..., :left] = kspace[..., left + last - first + 1 :] = 0
    encoded.x, encoding.encodedSpace.matrixSize.x = encoded.x * rows / nx, rows
    shown.x, shown.y = encoded.x, encoded.y * columns / ny
    encoding.reconSpace.matrixSize.x, encoding.reconSpace.matrixSize.y = rows, columns
    encoding.encodingLimits.kspace_encoding_step_0 = None
    encoding.encodingLimits.kspace_encoding_step_1 = limitType(minimum=0, maximum=last - first, center=center - first)
    patient = head.subjectInformation.patientID if head.subjectInformation else None
    head.subjectInformation = subjectInformationType(patientID=patient) if patient else None
    protocol = head.measurementInformation.protocolName if head.measurementInformation else None
    xml = ToXML(head, encoding="utf-8")
    return Measured(kspace, xml, (rows, columns), "_".join((protocol or "UNKNOWN").split()), patient or "")


def _sorted_lines(path: Path, data: h5py.Dataset, nx: int, wanted: range, left: int, ny: int) -> np.ndarray:
    """The mean over averages of all lines, (slices, coils, nx, ny); raises DataError where one is missing."""
    heads = data["head"]
    chosen = np.flatnonzero(_are_lines(heads["flags"]))
    heads = heads[chosen]
    if not len(heads):
        raise DataError("no lines of an image", path, "leave the file out")
    for name in _ONE_SCAN:
        values = np.unique(heads["idx"][name])
        if len(values) > 1:
            raise _refused(f"several values of {name} ({values[0]} to {values[-1]})", path)
    for name in ("active_channels", "encoding_space_ref"):
        if len(np.unique(heads[name])) > 1:
            raise _refused(f"several values of {name}", path)
    if (heads["flags"] & _bit("IS_REVERSE")).any():
        raise _refused("lines are read backwards (EPI)", path)
    samples = np.unique(heads["number_of_samples"].astype(int) - heads["discard_pre"] - heads["discard_post"])
    if samples.tolist() != [nx]:
        raise _refused(f"readouts of {', '.join(map(str, samples))} samples, {nx} are encoded", path)
    slices, place = np.unique(heads["idx"]["slice"], return_inverse=True)
    line = heads["idx"]["kspace_encode_step_1"].astype(int)
    inside = (line >= wanted.start) & (line < wanted.stop)
    if not inside.all():
        raise DataError(f"line {line[~inside][0]} is outside of the header's encoding limits", path, "mend the header")
    counts = np.zeros((len(slices), len(wanted)), int)
    np.add.at(counts, (place, line - wanted.start), 1)
    for number, found in zip(slices, np.count_nonzero(counts, axis=1), strict=True):
        if found < len(wanted):
            raise _refused(f"slice {number} has {found} of {len(wanted)} lines", path)
    coils = int(heads["active_channels"][0])
    kspace = np.zeros((len(slices), ny, coils, nx), np.complex64)
    for at, row in _rows(data, chosen):
        begin = int(row["head"]["discard_pre"])
        values = row["data"].view(np.complex64).reshape(coils, -1)[:, begin : begin + nx]
        kspace[place[at], left + line[at] - wanted.start] += values
    kspace[:, left : left + len(wanted)] /= counts[..., None, None]
    return np.ascontiguousarray(kspace.transpose(0, 2, 3, 1))


def _rows(data: h5py.Dataset, chosen: np.ndarray) -> Iterator[tuple[int, Any]]:
    """(place among the chosen, acquisition), some in memory at a time."""
    places = {int(row): place for place, row in enumerate(chosen)}
    for start in range(0, len(data), _CHUNK):
        for offset, row in enumerate(data[start : start + _CHUNK]):
            if start + offset in places:
                yield places[start + offset], row


def _are_lines(flags: np.ndarray) -> np.ndarray:
    skipped = sum(_bit(name) for name in _NO_LINES)
    calibration, both = _bit("IS_PARALLEL_CALIBRATION"), _bit("IS_PARALLEL_CALIBRATION_AND_IMAGING")
    found: np.ndarray = ((flags & skipped) == 0) & (((flags & calibration) == 0) | ((flags & both) != 0))
    return found


def _bit(name: str) -> int:
    import ismrmrd

    found: int = 1 << (getattr(ismrmrd, f"ACQ_{name}") - 1)
    return found


def _refused(what: str, path: Path) -> DataError:
    return DataError(what, path, "only fully sampled Cartesian 2-D scans of one contrast are converted")
