"""Analyses kept by content: the same model, loss, data and definition are analysed once on a machine.

An analysis lies at ``FOLDER/KEY.h5``. Processes that ask for one at the same time take turns at a lock file, so the
first computes and the others read; the file appears only when it is whole, so a killed computation leaves nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock

from ssdtune.device import PRECISION
from ssdtune.errors import DataError
from ssdtune.files import cache_folder, content_hash
from ssdtune.fisher.analysis import MAX_GRAM_SAMPLES, analyse, fisher_identity
from ssdtune.fisher.crew import Alone, OpenCrew
from ssdtune.fisher.features import FEATURE_VERSION
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.fisher.store import FORMAT_VERSION
from ssdtune.progress import Track, silent
from ssdtune.studyfile import FisherSection
from ssdtune.task import Task


def cache_key(task: Task, section: FisherSection, groups: Literal["layer", "block"] | None = None) -> str:
    """Content hash of everything that an analysis depends on; the memory budget is no part of it."""
    parts = [f"{name}={value}" for name, value in sorted(fisher_identity(task).items())]
    parts += [
        section.definition,
        f"batch_size={section.batch_size if section.definition == 'batch' else 1}",
        f"denominator={section.denominator}",
        f"phi={task.phi!r}",
        f"known_share={task.known_share!r}",
        f"rows={MAX_GRAM_SAMPLES}",
        f"device={torch.device(task.device).type}",
        f"precision={PRECISION}",
        f"features={FEATURE_VERSION}",
        f"format={FORMAT_VERSION}",
        *([f"groups={groups}"] if groups else []),
        *([f"samples={section.samples}"] if section.samples else []),
    ]
    return content_hash(parts)


def cached_analysis(
    task: Task,
    section: FisherSection,
    folder: Path | None = None,
    track: Track = silent,
    *,
    groups: Literal["layer", "block"] | None = None,
    crew: OpenCrew = Alone,
) -> FisherAnalysis:
    """The analysis of a task as a study file's ``[fisher]`` asks for it: read if it was made before, else computed.

    folder : where analyses are kept; default ``fisher`` in ssdtune's cache folder. groups, crew : see ``analyse``.

    Raises DataError: the folder cannot be written; and what ``analyse`` raises.
    """
    folder = folder or cache_folder() / "fisher"
    path = folder / f"{cache_key(task, section, groups)}.h5"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as reason:
        what = f"cannot write the cache ({reason.strerror or reason})"
        raise DataError(what, folder, "set SSDTUNE_CACHE to a folder that you can write") from reason
    with lock:
        if path.exists():
            try:
                return FisherAnalysis.load(path, device=str(task.device))
            except DataError:
                path.unlink()  # damaged since it was written: compute it again
        analysis = analyse_as(task, section, track, groups=groups, crew=crew)
        analysis.save(path)
        return analysis


def analyse_as(
    task: Task,
    section: FisherSection,
    track: Track = silent,
    *,
    groups: Literal["layer", "block"] | None = None,
    crew: OpenCrew = Alone,
) -> FisherAnalysis:
    """The same, always computed."""
    return analyse(
        task,
        definition=section.definition,
        batch_size=section.batch_size,
        denominator=section.denominator,
        memory_budget=section.memory_budget_gib * 2**30,
        groups=groups,
        samples=section.samples,
        crew=crew,
        track=track,
    )
