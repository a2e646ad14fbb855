"""Slices of fastMRI files as samples: masked k-space for a VarNet, a zero-filled image for a U-Net.

One slice is in memory at a time, and no file stays open, so a set may be larger than memory and go to other processes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ssdtune.errors import ConfigError, DataError
from ssdtune.files import content_hash, hdf5_trouble
from ssdtune.mri.kspace.attributes import number as one_number
from ssdtune.mri.kspace.attributes import sampled_columns, text
from ssdtune.mri.kspace.check import FileReport, check_clean
from ssdtune.mri.kspace.find import labels, slice_dataset
from ssdtune.mri.kspace.look import (
    CLEAN_MAX,
    CLEAN_TARGET,
    KSPACE,
    MASK,
    SMALLEST_SIDE,
    TARGET,
    TARGET_MAX,
    by,
    center_size,
    target_key,
)
from ssdtune.mri.kspace.masking import INPUTS, Inputs, sampled_lines
from ssdtune.mri.kspace.reports import known_report
from ssdtune.mri.kspace.scan import center_crop, coil_images
from ssdtune.mri.kspace.taken import Numbers, Taken
from ssdtune.progress import Say, Track, silent, unsaid
from ssdtune.studyfile import MaskSection

if TYPE_CHECKING:
    import h5py

    from ssdtune.mri.networks.models import Architecture

Item = tuple[tuple[Tensor, ...], dict[str, Tensor]]


def open_slices(
    files: Sequence[Path],
    mask: MaskSection,
    architecture: Architecture,
    clean: Path | None = None,
    *,
    name: str = "files",
    skip_faulty: bool = False,
    taken: Taken | None = None,
    headers_only: bool = False,
    track: Track = silent,
    say: Say = unsaid,
) -> KspaceSlices:
    """Check the files and make a sample set of all their slices, in order.

    ``taken`` makes it a part of the whole, and the content of nothing else is read; ``headers_only`` reads that of
    none, so that slices are not checked. ``skip_faulty`` leaves out slices and files that cannot be used, and ``say``s
    which.

    Clean targets are taken from the folder ``clean`` (same file names), else from the files themselves if each has
    them. Reports of unchanged files are kept in the user's cache folder; other files are read through once, which
    ``track`` shows under ``name``.

    Raises
    ------
    DataError : a file cannot be used, or has no clean version in ``clean``.
    ConfigError : the mask section does not fit the k-space.
    """
    reports, total = [], None
    numbers: Numbers = dict.fromkeys(files)
    if taken is not None or headers_only:
        numbers, total = (taken or Taken()).numbers(files, skip_faulty, name, track)
    for file in track(list(numbers), f"reading {name}", len(numbers)):
        report = known_report(file, () if headers_only else numbers[file])
        if not skip_faulty:
            report.raise_first_fault()
        if report.faults:
            left = f"{len(report.broken)} slices" if report.sound_slices else "the file"
            say(f"{name} set: {left} of {report.path} left out ({report.faults[0][0]})")
        if report.sound_slices:
            reports.append(report)
    if not reports:
        raise DataError(f"no usable file in the {name} set", files[0], f"see: ssdtune data check {str(files[0])!r}")
    if clean is not None:
        beside = [(clean / report.path.name).absolute() for report in reports]
        ids = map(check_clean, beside, reports)
        targets = [_CleanTargets(path, TARGET, TARGET_MAX, each) for path, each in zip(beside, ids, strict=True)]
    elif all(report.has_clean for report in reports):
        targets = [_CleanTargets(r.path.absolute(), CLEAN_TARGET, CLEAN_MAX, r.clean_ids) for r in reports]
    else:
        targets = []
    places = [numbers[report.path] or () for report in reports] if headers_only else None
    return KspaceSlices(reports, mask, architecture, targets, total, places)


@dataclass(frozen=True)
class _CleanTargets:
    """Where the clean targets of one file are, and the content of each."""

    path: Path
    dataset: str
    maximum: str
    ids: tuple[str, ...]

    def read(self, file: h5py.File, number: int, size: tuple[int, int]) -> dict[str, Tensor]:
        """One slice's, from the file at ``path``, which is open, cut to ``size``."""
        image = torch.from_numpy(_image(file[self.dataset][number], size))
        return {"clean": image, "clean_max": _scalar(file.attrs[self.maximum])}


class KspaceSlices:
    """Sample set over files without faults; made by ``open_slices``.

    An item is ``(inputs, target)``. ``inputs`` for a VarNet: masked k-space (coils, ky, kx, 2) float32, sampling mask
    (1, 1, kx, 1) bool, and the centre lines (1, 1, kx, 1) bool from which stock fastMRI estimates the sensitivity maps.
    ``inputs`` for a U-Net: normalised zero-filled image (h, w), its mean and standard deviation. ``target`` is a dict
    of ``image`` (h, w) float32 and ``max``, where known ``clean`` and ``clean_max``, and for a U-Net ``mean`` and
    ``std`` once more, in which its loss is normalised. Each volume has one mask, unless ``for_epoch`` asks for others.
    ``total`` : slices of the whole set, of which these may be a part. ``subjects`` : one name a slice, where known.
    """

    def __init__(
        self,
        reports: Sequence[FileReport],
        mask: MaskSection,
        architecture: Architecture,
        clean: Sequence[_CleanTargets] = (),
        total: int | None = None,
        places: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.reports = tuple(reports)
        self.mask, self.architecture = mask, architecture
        self._clean = tuple(clean)
        self._epoch: int | None = None
        self.subjects: Sequence[str] = ()
        self._numbers = [report.sound_slices for report in self.reports] if places is None else places
        self._places = [(file, number) for file, numbers in enumerate(self._numbers) for number in numbers]
        self.total = len(self._places) if total is None else total
        dataset = slice_dataset([report.path for report in self.reports])
        metadata = {sample.fname: sample.metadata for sample in dataset.raw_samples}
        self._paths = [report.path.absolute() for report in self.reports]
        self._metadata = [metadata[path] for path in self._paths]
        self._inputs: Inputs = INPUTS[architecture](mask)
        self._refuse_bad_masks_and_sizes()

    def __len__(self) -> int:
        return len(self._places)

    def in_order(self) -> Iterator[Item]:
        """All slices; each file is opened once, and is open while its slices are gone through."""
        for file, numbers in enumerate(self._numbers):
            yield from self._items(file, numbers)

    __iter__ = in_order

    def __getitem__(self, index: int, /) -> Item:
        file, number = self._places[index]
        return next(self._items(file, [number]))

    def for_epoch(self, epoch: int) -> KspaceSlices:
        """The same slices, each under a mask of its own for this epoch of a training, as fastMRI trains."""
        other = copy.copy(self)
        other._epoch = epoch
        return other

    def _items(self, file: int, numbers: Sequence[int]) -> Iterator[Item]:
        name = self.reports[file].path.name
        read = zip(numbers, self._read(file, numbers), strict=True)
        for number, (kspace, own_mask, image, attributes, target) in read:
            seed = name if self._epoch is None else f"{name}:{number} epoch {self._epoch}"
            inputs = self._inputs(kspace, own_mask, image, attributes, seed)
            if self.architecture == "unet":
                target |= {"mean": inputs[1], "std": inputs[2]}
            yield inputs, target

    def _read(self, file: int, numbers: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        """(k-space, the file's own mask, image, attributes, target) of slices of one file, which is open meanwhile."""
        import h5py

        path, clean, number = self._paths[file], self._clean[file] if self._clean else None, numbers[0]
        try:
            with ExitStack() as stack:
                opened = stack.enter_context(h5py.File(path, "r"))
                beside = opened
                if clean is not None and clean.path != path:
                    beside = stack.enter_context(h5py.File(clean.path, "r"))
                kspace, images = opened[KSPACE], opened[target_key(opened)]
                own_mask = None
                if self.reports[file].own_mask:
                    own_mask = sampled_columns(opened[MASK][()], kspace.shape[-1])
                attributes = dict(opened.attrs) | self._metadata[file]
                size = self._size(file)
                for number in numbers:
                    image = _image(images[number], size)
                    target = {"image": torch.from_numpy(image), "max": _scalar(attributes[TARGET_MAX])}
                    if clean is not None:
                        target |= clean.read(beside, number, size)
                    yield coil_images(kspace[number]), own_mask, image, attributes, target
        except (OSError, KeyError) as reason:
            lost = not path.is_file() or isinstance(reason, KeyError)
            why = "it is no longer there" if lost else hdf5_trouble(path, reason)[0]
            what = f"slice {number} can no longer be read ({why})"
            raise DataError(what, self.reports[file].path, "keep the files of a study in place") from reason

    def _size(self, file: int) -> tuple[int, int]:
        """The size (h, w) in which the file's targets are compared with reconstructions."""
        report = self.reports[file]
        return center_size(report.kspace_size or (0, 0), report.target_size or (0, 0), self.architecture)

    @property
    def ids(self) -> list[str]:
        """One name a slice, ``file name:slice``; parent folders are put before it where file names repeat."""
        return [f"{name}:{number}" for name, (_, number) in zip(self.volumes, self._places, strict=True)]

    @property
    def volumes(self) -> list[str]:
        """The name of each slice's file."""
        return self.of_each(labels([report.path for report in self.reports]))

    @property
    def anatomies(self) -> list[str]:
        """The ``acquisition`` of each slice's file, as near as fastMRI's files come to naming anatomy and contrast."""
        return self.of_each([text(metadata.get("acquisition")) for metadata in self._metadata])

    def of_each(self, of_files: Sequence[str]) -> list[str]:
        """What is given of each file, of each slice."""
        return [of_files[file] for file, _ in self._places]

    @property
    def has_clean(self) -> bool:
        """Whether clean targets are known."""
        return bool(self._clean)

    @property
    def one_of_each_size(self) -> list[int]:
        """Index of the first slice of each size of k-space and target."""
        first: dict[object, int] = {}
        for index, (file, _) in enumerate(self._places):
            first.setdefault((self.reports[file].kspace_size, self.reports[file].target_size), index)
        return list(first.values())

    def content_ids(self) -> list[str]:
        """One hash a slice of its k-space alone: equal for one acquisition under any file name and with any target."""
        return [self.reports[file].kspace_ids[number] for file, number in self._places]

    def fingerprint(self) -> str:
        """Content hash of everything that makes the samples: k-space, targets, header, mask section, architecture."""
        parts = ["fastmri slices", self.architecture, self.mask.model_dump_json()]
        for file, report in enumerate(self.reports):
            # the file name seeds the mask
            parts += [report.path.name, report.attributes_id, *report.kspace_ids, *report.target_ids]
            parts += self._clean[file].ids if self._clean else ()
            parts += [f"without {number}" for number in report.broken]
        return content_hash(parts)

    @property
    def true_acceleration(self) -> float:
        """Columns over sampled columns, mean over the volumes, padding not counted; own masks as they are."""
        return float(np.mean([lines.size / lines.sum() for lines in map(self._lines, range(len(self.reports)))]))

    def _lines(self, file: int) -> np.ndarray:
        """Which of the measured columns of a file are sampled, bool."""
        import h5py

        report, metadata = self.reports[file], self._metadata[file]
        columns = (report.kspace_size or (0, 0))[1]
        if report.own_mask:
            with h5py.File(self._paths[file], "r") as opened:
                lines = np.asarray(sampled_columns(opened[MASK][()], columns))
        else:
            lines = sampled_lines(self.mask, columns, report.path.name).numpy()
        return lines[metadata["padding_left"] : metadata["padding_right"]]

    def _refuse_bad_masks_and_sizes(self) -> None:
        for file, report in enumerate(self.reports):
            if min(self._size(file)) < SMALLEST_SIDE:
                what = f"target and k-space have {by(self._size(file))} pixels in common"
                raise DataError(what, report.path, f"SSIM needs {SMALLEST_SIDE} a side")
            if not report.own_mask and not self._lines(file).any():
                raise ConfigError("the mask samples no line", report.path, "lower mask.acceleration")


def _image(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(center_crop(values, size), dtype=np.float32)


def _scalar(value: Any) -> Tensor:
    return torch.tensor(one_number(value), dtype=torch.float32)
