"""What an HDF5 file in fastMRI's layout holds, and every reason why it cannot be used.

The layout: ``kspace`` (slices, coils, ky, kx) complex64, ``reconstruction_rss`` (slices, h, w), ``ismrmrd_header``
(XML) and the attribute ``max``; also ``mask`` (kx,) where the acquisition itself was undersampled, and
``reconstruction_rss_clean`` with the attribute ``max_clean`` where ``reconstruction_rss`` is a corrupted target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np
from pydantic import BaseModel, ConfigDict

from ssdtune.errors import DataError
from ssdtune.files import content_hash
from ssdtune.mri.kspace.find import slice_dataset
from ssdtune.mri.kspace.scan import Fault, scan_kspace, scan_targets
from ssdtune.progress import Track, silent

if TYPE_CHECKING:
    import h5py

KSPACE, TARGET, TARGET_MAX, HEADER, MASK = "kspace", "reconstruction_rss", "max", "ismrmrd_header", "mask"
CLEAN_TARGET, CLEAN_MAX = "reconstruction_rss_clean", "max_clean"
LAYOUT = "store it as (slices, coils, ky, kx) complex64"
# SSIM's window has to fit
SMALLEST_SIDE = 7
# relative L2 distance at which a target is called something else than the root sum of squares of its k-space
RSS_TOLERANCE = 0.01
# relative distance of the attribute `max` from the largest target value
MAX_TOLERANCE = 1e-3


class FileReport(BaseModel):
    """What was found in one file: ``faults`` are reasons not to use it, ``mismatches`` are worth a look.

    ``nan`` counts non-finite values in k-space and targets. ``kspace_ids``, ``target_ids`` and ``clean_ids`` name each
    slice's content by a hash, whatever the file is called; ``attributes_id`` covers header, ranges and own mask.
    """

    model_config = ConfigDict(frozen=True)

    path: Path
    slices: int = 0
    coils: int = 0
    kspace_size: tuple[int, int] | None = None
    target_size: tuple[int, int] | None = None
    dtype: str = ""
    nan: int = 0
    missing: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    readable: bool = True
    own_mask: bool = False
    has_clean: bool = False
    kspace_ids: tuple[str, ...] = ()
    target_ids: tuple[str, ...] = ()
    clean_ids: tuple[str, ...] = ()
    attributes_id: str = ""

    @property
    def usable(self) -> bool:
        return not self.faults

    def raise_first_fault(self) -> None:
        """Raise the first fault as a ``DataError``, if there is one."""
        for what, todo in self.faults:
            raise DataError(what, self.path, todo)


def check_files(paths: Iterable[Path], *, compare: bool = True, track: Track = silent) -> list[FileReport]:
    """One report a file, in order; see ``check_file``."""
    paths = list(paths)
    return [check_file(path, compare=compare) for path in track(paths, "checking", len(paths))]


def check_file(path: Path, *, compare: bool = True) -> FileReport:
    """Look at everything in one file, one slice in memory at a time; faults are values, nothing is raised.

    ``compare`` also compares the (clean) targets with the root sum of squares of the k-space, one FFT a coil image.
    """
    import h5py

    try:
        path.open("rb").close()
    except OSError as reason:
        fault = (f"cannot read ({reason.strerror})", "check path and permissions")
        return FileReport(path=path, readable=False, faults=(fault,))
    look = _Look()
    readable = True
    try:
        with h5py.File(path, "r") as file:
            # each step builds on what the one before it found sound
            look.at_arrays(file)
            if not look.faults:
                look.at_header(path, file)
            if not look.faults:
                look.at_content(file, compare)
    except Exception as reason:  # damaged bytes can raise nearly anything inside HDF5
        kind = "damaged HDF5 file" if h5py.is_hdf5(path) else "not an HDF5 file"
        look.fault(f"{kind} ({_first_line(reason)})", "copy or download it again")
        readable = False
    return FileReport(
        path=path, readable=readable, faults=tuple(look.faults), mismatches=tuple(look.mismatches), **look.facts
    )


def check_clean(path: Path, report: FileReport) -> tuple[str, ...]:
    """Content ids of the clean targets in ``path`` that go with the corrupted ones of ``report``, slice by slice.

    Raises
    ------
    DataError : the file or its targets are missing, non-finite or of another shape.
    """
    import h5py

    look = _Look()
    ids: tuple[str, ...] = ()
    try:
        with h5py.File(path, "r") as file:
            size = look.at_targets(file, TARGET, TARGET_MAX, report.slices)
            if size is not None and size != report.target_size:
                look.fault(f"clean targets are {_by(size)}, those of {report.path.name} {_by(report.target_size)}", "")
            if not look.faults:
                scan = scan_targets(file[TARGET], "clean target")
                look.faults += scan.faults
                # the maximum is part of the target: it is the data range of SSIM and PSNR
                top = float(file.attrs[TARGET_MAX])
                ids = tuple(content_hash((name, repr(top))) for name in scan.ids)
    except Exception as reason:  # as above
        raise DataError(f"no readable clean version of {report.path.name}", path, "check data.clean") from reason
    for what, todo in look.faults:
        raise DataError(what, path, todo or "give clean targets of the same size and slices")
    return ids


class _Look:
    """Facts, faults and mismatches found so far in one file."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.faults: list[Fault] = []
        self.mismatches: list[str] = []

    def fault(self, what: str, todo: str) -> None:
        self.faults.append((what, todo))

    def at_arrays(self, file: h5py.File) -> None:
        """Keys, ranks, dtypes and sizes, from the file's metadata alone."""
        missing = [key for key in (KSPACE, TARGET, HEADER) if key not in file]
        missing += [TARGET_MAX] if TARGET_MAX not in file.attrs else []
        self.facts |= {"missing": missing, "own_mask": MASK in file, "has_clean": CLEAN_TARGET in file}
        kspace = file.get(KSPACE)
        if not hasattr(kspace, "dtype"):
            self.fault(f"no '{KSPACE}' dataset", LAYOUT)
            return
        self.facts["dtype"] = str(kspace.dtype)
        if kspace.ndim != 4:
            single = " (single-coil, or no slice axis)" if kspace.ndim == 3 else ""
            self.fault(f"k-space has {kspace.ndim} dimensions{single}, multi-coil needs 4", LAYOUT)
            return
        slices, coils, *size = kspace.shape
        self.facts |= {"slices": slices, "coils": coils, "kspace_size": size}
        if kspace.dtype != np.complex64:
            self.fault(f"k-space is {kspace.dtype}, not complex64", LAYOUT)
        elif slices == 0:
            self.fault("no slices", "leave the file out")
        elif min(kspace.shape) == 0:
            self.fault(f"k-space is empty, shape {kspace.shape}", LAYOUT)
        else:
            self._at_all_targets(file, slices, size)

    def _at_all_targets(self, file: h5py.File, slices: int, size: Sequence[int]) -> None:
        target = self.at_targets(file, TARGET, TARGET_MAX, slices)
        if target is None:
            return
        self.facts["target_size"] = target
        if target[0] > size[0] or target[1] > size[1]:
            self.fault(f"target ({_by(target)}) is larger than k-space ({_by(size)})", "crop the target")
        if CLEAN_TARGET in file:
            clean = self.at_targets(file, CLEAN_TARGET, CLEAN_MAX, slices)
            if clean is not None and clean != target:
                self.fault(f"'{CLEAN_TARGET}' is {_by(clean)}, '{TARGET}' {_by(target)}", "make them one size")
        if MASK in file and file[MASK].shape != (size[1],):
            self.fault(f"'{MASK}' has shape {file[MASK].shape}, not ({size[1]},)", "store one value a k-space column")

    def at_targets(self, file: h5py.File, key: str, top: str, slices: int) -> tuple[int, int] | None:
        """Size (h, w) of a target dataset, or None and a fault; ``top`` is the attribute of its maximum."""
        targets = file.get(key)
        if not hasattr(targets, "dtype"):
            self.fault(f"no '{key}' dataset", "add the targets (root sum of squares of the fully sampled coil images)")
        elif targets.ndim != 3 or targets.dtype.kind != "f":
            self.fault(f"'{key}' is {targets.dtype} {targets.shape}", "store it as (slices, h, w) float32")
        elif len(targets) != slices:
            self.fault(f"'{key}' has {len(targets)} slices, k-space {slices}", "store one target a slice")
        elif min(targets.shape[1:]) < SMALLEST_SIDE:
            self.fault(f"'{key}' is {_by(targets.shape[1:])}", f"SSIM needs {SMALLEST_SIDE} pixels a side")
        elif not _positive(file.attrs.get(top)):
            self.fault(f"attribute '{top}' is {file.attrs.get(top)}", f"store the volume's maximum of '{key}' in it")
        else:
            return int(targets.shape[1]), int(targets.shape[2])
        return None

    def at_header(self, path: Path, file: h5py.File) -> None:
        """What fastMRI reads from the header, against the arrays."""
        try:
            metadata = slice_dataset([path]).raw_samples[0].metadata
        except (KeyError, ValueError, TypeError, RuntimeError, ParseError) as reason:
            what = f"'{HEADER}' is not valid ({_first_line(reason)})" if HEADER in file else f"no '{HEADER}'"
            self.fault(what, "write an ISMRMRD header with matrix sizes and encoding limits, as fastMRI's files have")
            return
        left, right, columns = metadata["padding_left"], metadata["padding_right"], file[KSPACE].shape[-1]
        if not 0 <= left < min(right, columns):
            self.fault(f"the header's encoding limits are columns {left} to {right} of {columns}", "mend the header")
        for name, key, shape in (
            ("encoded", "encoding_size", file[KSPACE].shape[-2:]),
            ("reconstructed", "recon_size", file[TARGET].shape[-2:]),
        ):
            if metadata[key][:2] != tuple(shape):
                self.mismatches.append(f"{name} size {_by(metadata[key])} in the header, {_by(shape)} in the file")
        numbers = [left, right, *metadata["recon_size"], file.attrs[TARGET_MAX], file.attrs.get(CLEAN_MAX, 0)]
        own_mask = file[MASK][()].astype(bool).tobytes() if MASK in file else b""
        self.facts["attributes_id"] = content_hash((np.asarray(numbers, dtype="<f8").tobytes(), own_mask))

    def at_content(self, file: h5py.File, compare: bool) -> None:
        """Every slice: content ids, broken and empty slices; targets against their maximum and the k-space."""
        comparable = compare and MASK not in file
        kspace, distance = scan_kspace(file[KSPACE], file[CLEAN_TARGET if CLEAN_TARGET in file else TARGET], comparable)
        target = scan_targets(file[TARGET], "target")
        clean = scan_targets(file[CLEAN_TARGET], "clean target") if CLEAN_TARGET in file else None
        scans = [scan for scan in (kspace, target, clean) if scan is not None]
        self.faults += [fault for scan in scans for fault in scan.faults]
        self.facts |= {"nan": sum(scan.nan for scan in scans), "kspace_ids": kspace.ids, "target_ids": target.ids}
        self.facts["clean_ids"] = clean.ids if clean else ()
        if distance is not None and distance > RSS_TOLERANCE:
            self.mismatches.append(f"target is {distance:.0%} off the root sum of squares of the k-space")
        top = float(file.attrs[TARGET_MAX])
        if abs(target.top - top) > MAX_TOLERANCE * top:
            self.mismatches.append(f"attribute '{TARGET_MAX}' is {top:.4g}, the largest target value {target.top:.4g}")


def _positive(value: Any) -> bool:
    try:
        return bool(0 < float(value) < float("inf"))
    except (TypeError, ValueError):
        return False


def _by(size: Sequence[int] | None) -> str:
    return "x".join(str(side) for side in (size or ())[:2])


def _first_line(reason: Exception) -> str:
    """The cause in an HDF5 message, which stands in its last parenthesis, or the first line of another message."""
    line = (str(reason) or type(reason).__name__).splitlines()[0]
    return line[line.rfind("(") + 1 :].rstrip(")").split(",")[0] if line.endswith(")") else line
