"""Slices of fastMRI files as samples: masked k-space for a VarNet, a zero-filled image for a U-Net.

One slice is in memory at a time, and no file stays open after it, so a set may be larger than memory and go to other
processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ssdtune.errors import ConfigError, DataError
from ssdtune.files import content_hash
from ssdtune.mri.kspace.check import (
    CLEAN_MAX,
    CLEAN_TARGET,
    KSPACE,
    MASK,
    TARGET,
    TARGET_MAX,
    FileReport,
    check_clean,
)
from ssdtune.mri.kspace.find import labels, slice_dataset
from ssdtune.mri.kspace.masking import INPUTS, Inputs, sampled_lines
from ssdtune.mri.kspace.reports import known_report
from ssdtune.progress import Track, silent
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
    track: Track = silent,
) -> KspaceSlices:
    """Check the files and make a sample set of all their slices, in order.

    Clean targets are taken from the folder ``clean`` (same file names), else from the files themselves if each has
    them. Reports of unchanged files are kept in the user's cache folder; other files are read through once, which
    ``track`` shows under ``name``.

    Raises
    ------
    DataError : a file cannot be used, or has no clean version in ``clean``.
    ConfigError : the mask section does not fit the k-space.
    """
    reports = []
    for file in track(files, f"reading {name}", len(files)):
        reports.append(known_report(file))
        reports[-1].raise_first_fault()
    if clean is not None:
        targets = [_clean_beside(clean / report.path.name, report) for report in reports]
    elif all(report.has_clean for report in reports):
        targets = [
            _CleanTargets(report.path.absolute(), CLEAN_TARGET, CLEAN_MAX, report.clean_ids) for report in reports
        ]
    else:
        targets = []
    return KspaceSlices(reports, mask, architecture, targets)


@dataclass(frozen=True)
class _CleanTargets:
    """Where the clean targets of one file are, and the content of each."""

    path: Path
    dataset: str
    maximum: str
    ids: tuple[str, ...]

    def read(self, file: h5py.File, number: int) -> dict[str, Tensor]:
        """One slice's, from the file at ``path``, which is open."""
        return {"clean": _image(file[self.dataset][number]), "clean_max": _scalar(file.attrs[self.maximum])}


class KspaceSlices:
    """Sample set over files without faults; made by ``open_slices``.

    An item is ``(inputs, target)``. ``inputs`` for a VarNet: masked k-space (coils, ky, kx, 2) float32, sampling mask
    (1, 1, kx, 1) bool, and the centre lines (1, 1, kx, 1) bool from which stock fastMRI estimates the sensitivity maps.
    ``inputs`` for a U-Net: normalised zero-filled image (h, w), its mean and standard deviation. ``target`` is a dict
    of ``image`` (h, w) float32 and ``max``, and, where known, ``clean`` and ``clean_max``.
    """

    def __init__(
        self,
        reports: Sequence[FileReport],
        mask: MaskSection,
        architecture: Architecture,
        clean: Sequence[_CleanTargets] = (),
    ) -> None:
        self.reports = tuple(reports)
        self.mask = mask
        self.architecture = architecture
        self._clean = tuple(clean)
        self._places = [(file, number) for file, report in enumerate(self.reports) for number in range(report.slices)]
        dataset = slice_dataset([report.path for report in self.reports])
        metadata = {sample.fname: sample.metadata for sample in dataset.raw_samples}
        self._paths = [report.path.absolute() for report in self.reports]
        self._metadata = [metadata[path] for path in self._paths]
        self._inputs: Inputs = INPUTS[architecture](mask)
        self._refuse_empty_masks()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Item]:
        return self.in_order()

    def in_order(self) -> Iterator[Item]:
        """All slices; each file is opened once, and is open while its slices are gone through."""
        for file, report in enumerate(self.reports):
            yield from self._items(file, range(report.slices))

    def __getitem__(self, index: int, /) -> Item:
        file, number = self._places[index]
        return next(self._items(file, [number]))

    def _items(self, file: int, numbers: Sequence[int]) -> Iterator[Item]:
        name = self.reports[file].path.name
        for kspace, own_mask, image, attributes, target in self._read(file, numbers):
            yield self._inputs(kspace, own_mask, image, attributes, name), target

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
                own_mask = np.asarray(opened[MASK]) if MASK in opened else None
                attributes = dict(opened.attrs) | self._metadata[file]
                kspace, images = opened[KSPACE], opened[TARGET]
                for number in numbers:
                    image = images[number]
                    target = {"image": _image(image), "max": _scalar(attributes[TARGET_MAX])}
                    if clean is not None:
                        target |= clean.read(beside, number)
                    yield kspace[number], own_mask, image, attributes, target
        except (OSError, KeyError) as reason:
            what = f"slice {number} can no longer be read"
            raise DataError(what, self.reports[file].path, "keep the files of a study in place") from reason

    @property
    def ids(self) -> list[str]:
        """One name a slice, ``file name:slice``; parent folders are put before it where file names repeat."""
        return [f"{name}:{number}" for name, (_, number) in zip(self.volumes, self._places, strict=True)]

    @property
    def volumes(self) -> list[str]:
        """The name of each slice's file."""
        names = labels([report.path for report in self.reports])
        return [names[file] for file, _ in self._places]

    @property
    def anatomies(self) -> list[str]:
        """The ``acquisition`` of each slice's file, as near as fastMRI's files come to naming anatomy and contrast."""
        return [str(self._metadata[file].get("acquisition", "")) for file, _ in self._places]

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
        return [name for report in self.reports for name in report.kspace_ids]

    def fingerprint(self) -> str:
        """Content hash of everything that makes the samples: k-space, targets, header, mask section, architecture."""
        parts = ["fastmri slices", self.architecture, self.mask.model_dump_json()]
        for file, report in enumerate(self.reports):
            # the file name seeds the mask
            parts += [report.path.name, report.attributes_id, *report.kspace_ids, *report.target_ids]
            parts += self._clean[file].ids if self._clean else ()
        return content_hash(parts)

    def _refuse_empty_masks(self) -> None:
        for report, metadata in zip(self.reports, self._metadata, strict=True):
            size = report.kspace_size
            if report.own_mask or size is None:
                continue
            lines = sampled_lines(self.mask, size[1], report.path.name)
            if not lines[metadata["padding_left"] : metadata["padding_right"]].any():
                raise ConfigError("the mask samples no line", report.path, "lower mask.acceleration")


def _clean_beside(path: Path, report: FileReport) -> _CleanTargets:
    return _CleanTargets(path.absolute(), TARGET, TARGET_MAX, check_clean(path, report))


def _image(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _scalar(value: float) -> Tensor:
    return torch.tensor(float(value), dtype=torch.float32)
