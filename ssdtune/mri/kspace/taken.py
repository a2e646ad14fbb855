"""Which slices of many files make up a set, decided from the files' metadata alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssdtune.mri.kspace.reports import known_report
from ssdtune.progress import Track, silent
from ssdtune.subset import drawn_order, stratified

Numbers = dict[Path, "Sequence[int] | None"]
"""The slices of each file, None for all."""


@dataclass(frozen=True)
class Taken:
    """What part of a set is taken: a share of its volumes, then at most so many slices of those."""

    volume_sample_rate: float = 1.0
    slices: int | None = None
    key: str = ""

    def of(self, names: Sequence[str], sizes: Sequence[int]) -> list[list[int]]:
        """The numbers of the slices taken of each volume, rising."""
        volumes = drawn_order(names, self.key)[: max(round(self.volume_sample_rate * len(names)), 1)]
        left = [size if index in set(volumes) else 0 for index, size in enumerate(sizes)]
        return stratified(names, left, sum(left) if self.slices is None else self.slices, self.key)

    def numbers(
        self, files: Sequence[Path], skip_faulty: bool = False, name: str = "files", track: Track = silent
    ) -> tuple[Numbers, int]:
        """The slices taken of each file that has some, and how many there are in all.

        Files at fault are taken whole, so that whoever reads them finds the fault; ``skip_faulty`` passes them over.
        """
        heads = [known_report(file, ()) for file in track(files, f"headers of {name}", len(files))]
        sound = [head for head in heads if head.usable]
        chosen = self.of([head.path.name for head in sound], [head.slices for head in sound])
        found: Numbers = {head.path: None for head in heads if not head.usable and not skip_faulty}
        found |= {head.path: only for head, only in zip(sound, chosen, strict=True) if only}
        return found, sum(head.slices for head in sound)
