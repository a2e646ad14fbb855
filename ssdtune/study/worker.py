"""What there is for a worker to do: the studies of a storage that still have trials left, and those that fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import optuna
from optuna.storages import BaseStorage

from ssdtune.study.lost import release_lost_trials
from ssdtune.study.record import is_ours
from ssdtune.study.storage import storage_errors, study_names
from ssdtune.study.trials import count_trials

FIRST_PAUSE, LONGEST_PAUSE, ASIDE = 5.0, 600.0, 3600.0
"""Seconds before a study that failed is tried again: the first time, at most, and once it is set aside."""


def waiting_studies(view: Callable[[], BaseStorage], names: Collection[str] = ()) -> Iterator[optuna.Study]:
    """Studies made by ssdtune with trials that nobody has begun, oldest first; only those of ``names``, if any.

    Each is looked at only when its turn comes, through a ``view`` of its own: other processes may make, run and delete
    studies meanwhile.

    Raises
    ------
    StorageError : the storage failed.
    """
    for name in study_names(view()):
        if not names or name in names:
            study = _find(name, view())
            if study is not None:
                yield study


def _find(name: str, storage: BaseStorage) -> optuna.Study | None:
    """The study, if it is still there, one of ssdtune's, and has trials left."""
    with storage_errors():
        try:
            study = optuna.load_study(study_name=name, storage=storage)
            return study if is_ours(study.user_attrs) and _has_trials_left(study) else None
        except KeyError:  # it was deleted, perhaps a moment ago
            return None


def _has_trials_left(study: optuna.Study) -> bool:
    budget = study.user_attrs.get("search", {}).get("trials", 0)  # a record of a newer version is refused later
    release_lost_trials(study)
    counts = count_trials(study)
    found: bool = counts.finished + counts.running < budget
    return found


@dataclass
class Setback:
    """A study that failed: how often in a row, why at last, the exit code of that, and when it is tried again."""

    failures: int = 0
    why: str = ""
    exit_code: int = 0
    aside: bool = False
    again: float = 0.0


@dataclass
class Setbacks:
    """The studies that failed here. Each is tried again after a pause that doubles; ``limit`` failures in a row set it
    aside, which is for an hour: what it failed for may have been mended."""

    limit: int
    found: dict[str, Setback] = field(default_factory=dict)

    def is_due(self, name: str) -> bool:
        return name not in self.found or time.monotonic() >= self.found[name].again

    def failed(self, name: str, why: str, exit_code: int, *, passing: bool = True) -> Setback:
        """Note a failure; one that is not ``passing`` sets the study aside at once."""
        setback = self.found.setdefault(name, Setback())
        setback.failures += 1
        setback.why, setback.exit_code = why, exit_code
        setback.aside = setback.failures >= self.limit or not passing
        pause = ASIDE if setback.aside else min(FIRST_PAUSE * 2 ** (setback.failures - 1), LONGEST_PAUSE)
        setback.again = time.monotonic() + pause
        return setback

    def went_on(self, name: str) -> None:
        """The study has come further."""
        self.found.pop(name, None)

    def next_try(self) -> float | None:
        """Seconds until a study that is not aside is tried again; None if there is none."""
        waiting = [setback.again for setback in self.found.values() if not setback.aside]
        return max(min(waiting) - time.monotonic(), 0.0) if waiting else None
