"""Facts and faults of one open HDF5 file, from its metadata first and then slice by slice."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from ssdtune.files import content_hash
from ssdtune.mri.kspace.attributes import is_text, number, sampled_columns, subject, text
from ssdtune.mri.kspace.find import slice_dataset
from ssdtune.mri.kspace.scan import LEAST, MOST, Fault, Scan, scan_kspace, scan_targets

if TYPE_CHECKING:
    import h5py

KSPACE, TARGET, TARGET_MAX, HEADER, MASK = "kspace", "reconstruction_rss", "max", "ismrmrd_header", "mask"
CLEAN_TARGET, CLEAN_MAX = "reconstruction_rss_clean", "max_clean"
# the targets of fastMRI's single-coil files, whose k-space has no axis of coils
SINGLE_TARGET = "reconstruction_esc"
LAYOUT = "store it as (slices, coils, ky, kx) complex64"
# SSIM's window has to fit
SMALLEST_SIDE = 7
# relative L2 distance at which a target is called something else than the root sum of squares of its k-space
RSS_TOLERANCE = 0.01
# relative distance of the attribute `max` from the largest target value
MAX_TOLERANCE = 1e-3
# relative difference of pixel sizes at which a target larger than its k-space was interpolated and not only padded
PIXEL_TOLERANCE = 0.02


def target_key(file: h5py.File) -> str:
    """Name of the dataset of targets."""
    kspace = file.get(KSPACE)
    single = getattr(kspace, "ndim", 4) == 3 and SINGLE_TARGET in file
    return SINGLE_TARGET if single else TARGET


def center_size(kspace: Sequence[int], target: Sequence[int], architecture: str) -> tuple[int, int]:
    """The size (h, w) in which a target (h, w) is compared with a reconstruction of k-space (ky, kx).

    fastMRI's VarNet module takes the smaller of each axis; its U-Net transform a square of the k-space's width where
    that is the smaller width ("FLAIR 203" there).
    """
    if architecture == "unet" and kspace[1] < target[1]:
        target = (kspace[1], kspace[1])
    return min(kspace[0], target[0]), min(kspace[1], target[1])


class Look:
    """Facts, faults and mismatches found so far in one file.

    faults : of the file as a whole. broken : slices that cannot be used, and why.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.faults: list[Fault] = []
        self.broken: dict[int, Fault] = {}
        self.mismatches: list[str] = []

    def fault(self, what: str, todo: str) -> None:
        self.faults.append((what, todo))

    def at_arrays(self, file: h5py.File) -> None:
        """Keys, ranks, dtypes and sizes, from the file's metadata alone."""
        wanted = (KSPACE, target_key(file), HEADER)
        missing = [key for key in wanted if key not in file] + [TARGET_MAX] * (TARGET_MAX not in file.attrs)
        self.facts |= {"missing": missing, "has_clean": CLEAN_TARGET in file}
        kspace = file.get(KSPACE)
        if not hasattr(kspace, "dtype"):
            self.fault(f"no '{KSPACE}' dataset", LAYOUT)
            return
        self.facts["dtype"] = str(kspace.dtype)
        if kspace.ndim not in (3, 4):
            self.fault(f"k-space has {kspace.ndim} dimensions, not 4 (single-coil: 3)", LAYOUT)
            return
        slices, coils, *size = kspace.shape if kspace.ndim == 4 else (kspace.shape[0], 1, *kspace.shape[1:])
        self.facts |= {"slices": slices, "coils": coils, "kspace_size": size}
        if kspace.dtype.kind != "c":
            self.fault(f"k-space is {kspace.dtype}, not complex64", LAYOUT)
        elif slices == 0:
            self.fault("no slices", "leave the file out")
        elif min(kspace.shape) == 0:
            self.fault(f"k-space is empty, shape {kspace.shape}", LAYOUT)
        else:
            self._at_all_targets(file, slices, size)

    def _at_all_targets(self, file: h5py.File, slices: int, size: Sequence[int]) -> None:
        key = target_key(file)
        target = self.at_targets(file, key, TARGET_MAX, slices)
        if target is None:
            return
        self.facts["target_size"] = target
        if CLEAN_TARGET in file:
            clean = self.at_targets(file, CLEAN_TARGET, CLEAN_MAX, slices)
            if clean is not None and clean != target:
                self.fault(f"'{CLEAN_TARGET}' is {by(clean)}, '{key}' {by(target)}", "make them one size")
        if MASK in file:
            mask = file[MASK]
            found = sampled_columns(mask[()], size[1]) if hasattr(mask, "dtype") else "is a group"
            if isinstance(found, str):
                self.fault(f"'{MASK}' {found}", "store one value a k-space column, 1 where it was measured, or none")

    def at_targets(self, file: h5py.File, key: str, top: str, slices: int) -> tuple[int, int] | None:
        """Size (h, w) of a target dataset, or None and a fault; ``top`` is the attribute of its maximum."""
        targets = file.get(key)
        if not hasattr(targets, "dtype"):
            self.fault(f"no '{key}' dataset", "add the targets (root sum of squares of the fully sampled coil images)")
        elif targets.ndim != 3 or targets.dtype.kind not in "fiu":
            self.fault(f"'{key}' is {targets.dtype} {targets.shape}", "store it as (slices, h, w) float32")
        elif len(targets) != slices:
            self.fault(f"'{key}' has {len(targets)} slices, k-space {slices}", "store one target a slice")
        elif min(targets.shape[1:]) < SMALLEST_SIDE:
            self.fault(f"'{key}' is {by(targets.shape[1:])}", f"SSIM needs {SMALLEST_SIDE} pixels a side")
        elif not LEAST < (number(file.attrs.get(top)) or 0) < MOST:
            said = text(file.attrs.get(top))
            shown = "not there" if not said else repr(said[:40]) if is_text(file.attrs[top]) else said[:40]
            self.fault(f"attribute '{top}' is {shown}", f"store the volume's maximum of '{key}' in it, one number")
        else:
            return int(targets.shape[1]), int(targets.shape[2])
        return None

    def at_header(self, path: Path, file: h5py.File) -> None:
        """What fastMRI reads from the header, against the arrays."""
        try:
            metadata = slice_dataset([path]).raw_samples[0].metadata
        except (KeyError, ValueError, TypeError, RuntimeError, ElementTree.ParseError) as reason:
            said = (str(reason) or type(reason).__name__).splitlines()[0]
            what = f"'{HEADER}' is not valid ({said})" if HEADER in file else f"no '{HEADER}'"
            self.fault(what, "write an ISMRMRD header with matrix sizes and encoding limits, as fastMRI's files have")
            return
        left, right, columns = metadata["padding_left"], metadata["padding_right"], file[KSPACE].shape[-1]
        if not 0 <= left < min(right, columns):
            self.fault(f"the header's encoding limits are columns {left} to {right} of {columns}", "mend the header")
            return
        key = target_key(file)
        for name, part, shape in (
            ("encoded", "encoding_size", file[KSPACE].shape[-2:]),
            ("reconstructed", "recon_size", file[key].shape[-2:]),
        ):
            if metadata[part][:2] != tuple(shape):
                self.mismatches.append(f"{name} size {by(metadata[part])} in the header, {by(shape)} in the file")
        self._at_larger_target(file, key)
        own_mask = sampled_columns(file[MASK][()], columns) if MASK in file else None
        if isinstance(own_mask, np.ndarray) and own_mask[left:right].all():
            self.mismatches.append(f"'{MASK}' samples every line: the study's mask is applied, as to a file without")
            own_mask = None
        self.facts |= {"own_mask": own_mask is not None, "subject": subject(file.attrs)}
        numbers = [left, right, *metadata["recon_size"], number(file.attrs[TARGET_MAX])]
        numbers.append(number(file.attrs.get(CLEAN_MAX)) or 0)
        raw = own_mask.tobytes() if isinstance(own_mask, np.ndarray) else b""
        self.facts["attributes_id"] = content_hash((np.asarray(numbers, dtype="<f8").tobytes(), raw))

    def _at_larger_target(self, file: h5py.File, key: str) -> None:
        """A target larger than its k-space: cut to size, unless it was interpolated, which no cutting makes good."""
        size, target = file[KSPACE].shape[-2:], file[key].shape[-2:]
        if target[0] <= size[0] and target[1] <= size[1]:
            return
        said = f"target ({by(target)}) is larger than k-space ({by(size)})"
        pixels = _fields_of_view(file[HEADER][()])
        for own, shown, lines, kept in zip(*pixels, size, target, strict=True) if pixels else ():
            if abs(own / lines - shown / kept) > PIXEL_TOLERANCE * own / lines:
                what = f"{said} and was interpolated: pixels of {shown / kept:.3g} mm, {own / lines:.3g} mm in k-space"
                self.fault(what, "store the root sum of squares of the coil images at the k-space's own resolution")
                return
        self.mismatches.append(f"{said}; both are cut to the smaller size, as fastMRI does")

    def at_content(self, file: h5py.File, compare: bool, only: Container[int] | None = None) -> None:
        """Every slice, or ``only`` some: ids, broken and empty ones; targets against their maximum and the k-space."""
        key = target_key(file)
        comparable = compare and not self.facts["own_mask"]
        kspace, distance = scan_kspace(
            file[KSPACE], file[CLEAN_TARGET if CLEAN_TARGET in file else key], comparable, only
        )
        target = scan_targets(file[key], "target", only)
        clean = scan_targets(file[CLEAN_TARGET], "clean target", only) if CLEAN_TARGET in file else None
        scans: list[Scan] = [scan for scan in (kspace, target, clean) if scan is not None]
        for scan in reversed(scans):  # the k-space's complaint is the one to show
            self.broken |= scan.broken
        self.facts |= {"nan": sum(scan.nan for scan in scans), "kspace_ids": kspace.ids, "target_ids": target.ids}
        self.facts["clean_ids"] = clean.ids if clean else ()
        if distance is not None and distance > RSS_TOLERANCE:
            self.mismatches.append(f"target is {distance:.0%} off the root sum of squares of the k-space")
        top = number(file.attrs[TARGET_MAX]) or 0.0
        if only is None and abs(target.top - top) > MAX_TOLERANCE * top:
            self.mismatches.append(f"attribute '{TARGET_MAX}' is {top:.4g}, the largest target value {target.top:.4g}")


def by(size: Sequence[int] | None) -> str:
    """A size in words: 320x320."""
    return "x".join(str(side) for side in (size or ())[:2])


def _fields_of_view(header: bytes | str) -> tuple[list[float], list[float]] | None:
    """Encoded and reconstructed field of view, (x, y) in mm; None where the header does not say."""
    encoding = next((part for part in ElementTree.fromstring(header) if part.tag.endswith("}encoding")), None)
    found = []
    for space in ("encodedSpace", "reconSpace"):
        sides = (
            [encoding.findtext(f"{{*}}{space}/{{*}}fieldOfView_mm/{{*}}{axis}") for axis in "xy"] if encoding else []
        )
        try:
            found.append([float(side) for side in sides if side])
        except ValueError:
            return None
    whole = all(len(sides) == 2 and min(sides) > 0 for sides in found)
    return (found[0], found[1]) if whole else None
