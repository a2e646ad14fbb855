"""Which files show the same subject: subjects stay together in splits, and one in two sets is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssdtune.mri.kspace.slices import KspaceSlices


def subject_of(path: Path, stated: str, pattern: str | None = None) -> str:
    """The subject of a file: what ``pattern`` finds in its name (its first group, if it has one), else what the file
    itself states (``patient_id``), else the file's own name."""
    found = re.search(pattern, path.name) if pattern else None
    if found:
        return found[1] if found.re.groups and found[1] is not None else found[0]
    return stated or path.stem


def name_subjects(slices: KspaceSlices, pattern: str | None = None) -> None:
    """Let a set know the subject of each of its slices."""
    of_files = [subject_of(report.path, report.subject, pattern) for report in slices.reports]
    slices.subjects = slices.of_each(of_files)


def shared_subjects(sets: Mapping[str, KspaceSlices]) -> Iterator[str]:
    """One line for each pair of sets that show the same subject; ``name_subjects`` has named them."""
    files = {name: dict(zip(slices.subjects, slices.volumes, strict=True)) for name, slices in sets.items()}
    for one, other in combinations(sets, 2):
        shared = [subject for subject in files[one] if subject in files[other]]
        if shared:
            example = f"{files[one][shared[0]]} and {files[other][shared[0]]}"
            yield f"{len(shared)} subjects are in the {one} and in the {other} set, such as {shared[0]} ({example})"
