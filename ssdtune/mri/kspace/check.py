"""What an HDF5 file in fastMRI's layout holds, and every reason why it cannot be used.

The layout: ``kspace`` (slices, coils, ky, kx) complex64, ``reconstruction_rss`` (slices, h, w), ``ismrmrd_header``
(XML) and the attribute ``max``; also ``mask`` (kx,) where the acquisition itself was undersampled, and
``reconstruction_rss_clean`` with the attribute ``max_clean`` where ``reconstruction_rss`` is a corrupted target.
Single-coil files have k-space (slices, ky, kx) and their targets in ``reconstruction_esc`` or ``reconstruction_rss``.
Other numeric types of HDF5, of either byte order, are converted when they are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ssdtune.errors import DataError
from ssdtune.files import content_hash, hdf5_trouble, is_special, opened_hdf5
from ssdtune.mri.kspace.attributes import number
from ssdtune.mri.kspace.look import TARGET, TARGET_MAX, Look, by
from ssdtune.mri.kspace.scan import UNREAD, Fault, scan_targets
from ssdtune.progress import Track, silent
from ssdtune.subset import stratified
from ssdtune.untrusted import untrusted_fault


class FileReport(BaseModel):
    """What was found in one file: ``faults`` are reasons not to use it, ``mismatches`` are worth a look.

    ``broken`` lists slices that cannot be used; the first fault of each kind is among ``faults`` too. ``sound_slices``
    are the others, none if the file as a whole is at fault. ``own_mask``: the file was undersampled at the scanner.
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
    broken: tuple[int, ...] = ()
    subject: str = ""
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

    @property
    def sound_slices(self) -> tuple[int, ...]:
        """Numbers of the slices that can be used."""
        if self.usable and not self.kspace_ids:  # the header alone was looked at
            return tuple(range(self.slices))
        # what is at fault as a whole was never read slice by slice
        read = [number for number, name in enumerate(self.kspace_ids) if name != UNREAD]
        return tuple(number for number in read if number not in self.broken)

    def raise_first_fault(self) -> None:
        """Raise the first fault as a ``DataError``, if there is one."""
        for what, todo in self.faults:
            raise DataError(what, self.path, todo)


def check_files(
    paths: Iterable[Path], *, compare: bool = True, most: float | None = None, track: Track = silent
) -> list[FileReport]:
    """One report a file, in order; see ``check_file``.

    most : bytes of k-space; of more in all, so much of it is read, spread over volumes and positions in them.
    """
    paths = list(paths)
    if most is None:
        return [check_file(path, compare=compare) for path in track(paths, "checking", len(paths))]
    heads = [check_file(path, only=()) for path in track(paths, "headers", len(paths))]
    sizes = [head.slices if head.usable else 0 for head in heads]
    total = sum(
        8 * size * head.coils * math.prod(head.kspace_size or (0,)) for size, head in zip(sizes, heads, strict=True)
    )
    count = sum(sizes) if total <= most else max(int(sum(sizes) * most / total), 1)
    taken = stratified([path.name for path in paths], sizes, count, "check")
    reports = []
    for head, only, size in track(zip(heads, taken, sizes, strict=True), "checking", len(paths)):
        whole = len(only) == size
        reports.append(check_file(head.path, compare=compare, only=None if whole else only) if only else head)
    return reports


def check_file(path: Path, *, compare: bool = True, only: Collection[int] | None = None) -> FileReport:
    """Look at everything in one file, one slice in memory at a time; faults are values, nothing is raised.

    ``compare`` also compares the (clean) targets with the root sum of squares of the k-space, one FFT a coil image.
    ``only`` these slices are read (none: the file's metadata alone is looked at); the others are no part of the report.
    """
    import h5py

    try:
        why = "not a file" if is_special(path) else None  # a pipe would be waited for
        if why is None:
            path.open("rb").close()
    except OSError as reason:
        why = reason.strerror or str(reason)
    if why is not None:
        fault = (f"cannot read ({why})", "check path and permissions")
        return FileReport(path=path, readable=False, faults=(fault,))
    look = Look()
    readable = True
    try:
        with h5py.File(path, "r") as file:
            # each step builds on what the one before it found sound
            untrusted = untrusted_fault(file)
            if untrusted is not None:
                look.fault(*untrusted)
            if not look.faults:
                look.at_arrays(file)
            if not look.faults:
                look.at_header(path, file)
            if not look.faults and (only is None or only):
                look.at_content(file, compare, only)
    except Exception as reason:  # damaged bytes can raise nearly anything inside HDF5
        look = Look()
        look.fault(*hdf5_trouble(path, reason))
        readable = False
    return FileReport(
        path=path,
        readable=readable,
        faults=(*look.faults, *_one_of_each_kind(look.broken)),
        broken=tuple(sorted(look.broken)),
        mismatches=tuple(look.mismatches),
        **look.facts,
    )


def _one_of_each_kind(broken: Mapping[int, Fault]) -> list[Fault]:
    """The first slice's fault of each kind, messages being one kind if they differ in numbers alone."""
    kinds: dict[str, Fault] = {}
    for _, fault in sorted(broken.items()):
        kinds.setdefault(re.sub(r"[\d.e+-]+", "", fault[0]), fault)
    return list(kinds.values())


def check_clean(path: Path, report: FileReport) -> tuple[str, ...]:
    """Content ids of the clean targets in ``path`` that go with the corrupted ones of ``report``, slice by slice.

    Raises
    ------
    DataError : the file or its targets are missing, non-finite or of another shape.
    """
    look = Look()
    ids: tuple[str, ...] = ()
    if not path.is_file():
        raise DataError(f"no readable clean version of {report.path.name}", path, "check data.clean")
    try:
        with opened_hdf5(path) as file:
            size = look.at_targets(file, TARGET, TARGET_MAX, report.slices)
            if size is not None and size != report.target_size:
                look.fault(f"clean targets are {by(size)}, those of {report.path.name} {by(report.target_size)}", "")
            if not look.faults:
                scan = scan_targets(file[TARGET], "clean target", report.sound_slices)
                look.faults += list(scan.broken.values())[:1]
                # the maximum is part of the target: it is the data range of SSIM and PSNR
                top = number(file.attrs[TARGET_MAX])
                ids = tuple(content_hash((name, repr(top))) for name in scan.ids)
    except DataError:
        raise
    except Exception as reason:  # as above
        raise DataError(f"no readable clean version of {report.path.name}", path, "check data.clean") from reason
    for what, todo in look.faults:
        raise DataError(what, path, todo or "give clean targets of the same size and slices")
    return ids
