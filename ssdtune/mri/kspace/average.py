"""Targets from repeated scans: the mean of the repetitions, which M4Raw stores as a file each.

M4Raw's own target is the mean of the repetitions' root-sum-of-squares images (github.com/mylyu/M4Raw,
denoising_demo/dataloader/dataset.py; Lyu et al., Scientific Data 10:264, 2023); there each image is rescaled to [0, 1]
first, here it keeps the k-space's scale. A mean of magnitudes keeps the noise floor of the background; the mean of the
complex k-space lowers it too, where nothing moved and phases agree, and blurs or cancels where they do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssdtune.errors import ConfigError, DataError
from ssdtune.files import atomic_path, empty_folder, new_hdf5, opened_hdf5
from ssdtune.mri.kspace.attributes import SUBJECT, subject
from ssdtune.mri.kspace.find import find_files
from ssdtune.mri.kspace.fourier import root_sum_of_squares
from ssdtune.mri.kspace.look import CLEAN_TARGET, HEADER, KSPACE, LAYOUT, MASK, TARGET, target_key
from ssdtune.mri.kspace.scan import center_crop, coil_images
from ssdtune.mri.kspace.write import write_target
from ssdtune.progress import Track, silent

if TYPE_CHECKING:
    import h5py

# M4Raw: 2022061003_T101.h5 is subject 2022061003, contrast T1, repetition 01
PATTERN = r"^(?P<subject>.+)_[A-Za-z]+\d?(?P<repetition>\d\d)\.h5$"


@dataclass(frozen=True)
class Average:
    """One file made: the repetitions it is the mean of, and the NMSE of the first repetition's image against it."""

    path: Path
    sources: tuple[Path, ...]
    slices: int
    nmse: float


def average_folder(
    source: Path | str, out: Path | str, *, by: str = "image", pattern: str = PATTERN, track: Track = silent
) -> list[Average]:
    """Write a file for each scan of ``source``: its first repetition's k-space, and the mean of all as target.

    Files whose names differ in what ``pattern`` finds as ``repetition`` alone are repetitions of one scan; the mean is
    named without it. The attributes ``averaged_from`` and ``averaged_by`` say what was done; ``patient_id`` is the one
    that the files state, else what the pattern finds as ``subject``, else the new name.

    Parameters
    ----------
    source : a folder, a glob or a text file of file names. out : a folder that is not there yet, or empty.
    by : "image", the mean of root-sum-of-squares images, or "kspace", the root sum of squares of the mean k-space.

    Raises
    ------
    ConfigError : ``out`` is not empty, a pattern without ``repetition``, a name that it does not find.
    DataError : a scan of one repetition, repetitions of several shapes or patients, a file that is poisoned,
        undersampled or not in fastMRI's layout, NaN or Inf, or ``out`` cannot be written.
    """
    out = empty_folder(out)
    scans = _scans(find_files(source), _compiled(pattern))
    subjects = {name: _checked(name, files) for name, files in scans.items()}
    done = []
    with atomic_path(out) as folder:
        folder.mkdir()
        for name, files in track(scans.items(), "averaging", len(scans)):
            found = re.search(pattern, files[0].name)
            stated = subjects[name] or (found and found.groupdict().get("subject")) or name
            slices, nmse = _write_average(files, folder / f"{name}.h5", by, stated)
            done.append(Average(out / f"{name}.h5", tuple(files), slices, nmse))
    return done


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as reason:
        raise ConfigError(f"'{pattern}' is no pattern ({reason})", "--pattern", "see Python's re") from reason
    if "repetition" not in compiled.groupindex:
        raise ConfigError(f"'{pattern}' has no group 'repetition'", "--pattern", rf"write it like '{PATTERN}'")
    return compiled


def _scans(files: Sequence[Path], pattern: re.Pattern[str]) -> dict[str, list[Path]]:
    """The repetitions of each scan, in their order, by the scan's name."""
    scans: dict[str, dict[str, Path]] = {}
    for file in files:
        found = pattern.search(file.name)
        if found is None or found["repetition"] is None:
            raise ConfigError(f"no repetition in the name by '{pattern.pattern}'", file, "give a --pattern, or a list")
        start, end = found.span("repetition")
        name = Path(file.name[:start] + file.name[end:]).stem.rstrip("_-.") or "average"
        scan = scans.setdefault(name, {})
        if found["repetition"] in scan:
            raise ConfigError(f"two files are repetition {found['repetition']} of {name}", file, "name each file once")
        scan[found["repetition"]] = file
    return {name: [scan[key] for key in sorted(scan)] for name, scan in scans.items()}


def _checked(name: str, files: Sequence[Path]) -> str:
    """The subject that the repetitions state, "" if none; raises DataError where they do not go together."""
    if len(files) == 1:
        raise DataError(f"'{name}' has one repetition, which is no mean", files[0], "leave it out, or mend --pattern")
    shapes, subjects = {}, {}
    for path in files:
        with opened_hdf5(path) as file:
            kspace = file.get(KSPACE)
            if getattr(kspace, "ndim", 0) not in (3, 4) or kspace.dtype.kind != "c" or 0 in kspace.shape:
                raise DataError(f"no usable '{KSPACE}'", path, LAYOUT)
            if HEADER not in file:
                raise DataError(f"no '{HEADER}'", path, "it is not a file in fastMRI's layout")
            if MASK in file:
                raise DataError("the file is undersampled", path, "average fully sampled files")
            if CLEAN_TARGET in file:
                raise DataError("the file is poisoned", path, "average the clean files, then poison")
            shapes[kspace.shape] = path
            stated = subject(file.attrs)
            if stated not in ("", path.stem):  # a name of the file is no name of a person
                subjects[stated] = path
    for what, found in (("shapes", shapes), ("patients", subjects)):
        if len(found) > 1:
            (one, first), (other, second) = list(found.items())[:2]
            raise DataError(f"{what} differ: {one} in {first.name}, {other}", second, "mend --pattern, or leave it out")
    return next(iter(subjects), "")


def _write_average(files: Sequence[Path], path: Path, by: str, stated: str) -> tuple[int, float]:
    """Returns the number of slices and the NMSE of the first repetition's image."""
    with ExitStack() as stack:
        opened = [stack.enter_context(opened_hdf5(file)) for file in files]
        first = opened[0]
        key = target_key(first)
        images = [_images(number, files, opened, by) for number in range(len(first[KSPACE]))]
        target, single = (np.stack(each) for each in zip(*images, strict=True))
        if target.max() <= 0:
            raise DataError("the k-space is all zero", files[0], "leave it out")
        size = [min(pair) for pair in zip(target.shape[1:], _target_size(first, key, target), strict=True)]
        target, single = center_crop(target, size), center_crop(single, size)
        with new_hdf5(path) as file:
            for name in first:
                if name not in (key, TARGET):
                    first.copy(name, file)
            file.attrs.update(first.attrs)
            file.attrs[SUBJECT] = stated
            file.attrs["averaged_from"] = [source.name for source in files]
            file.attrs["averaged_by"] = by
            write_target(file, target.astype(np.float32), key=key)
    return len(target), float(np.square(single - target).sum() / np.square(target).sum())


def _images(number: int, files: Sequence[Path], opened: Sequence[h5py.File], by: str) -> tuple[np.ndarray, np.ndarray]:
    """Slice ``number``: the mean image and the first repetition's, (h, w)."""
    kspace = [coil_images(file[KSPACE][number]) for file in opened]
    for path, values in zip(files, kspace, strict=True):
        if not np.isfinite(values).all():
            raise DataError(f"NaN or Inf in k-space, slice {number}", path, "repair the file or leave it out")
    images = [root_sum_of_squares(values) for values in (kspace if by == "image" else kspace[:1])]
    mean = np.mean(images, axis=0) if by == "image" else root_sum_of_squares(np.mean(kspace, axis=0))
    return mean, images[0]


def _target_size(file: h5py.File, key: str, images: np.ndarray) -> Sequence[int]:
    """Height and width of the targets that are there, else of the images."""
    return file[key].shape[1:] if getattr(file.get(key), "ndim", 0) == 3 else images.shape[1:]
