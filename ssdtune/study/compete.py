"""A competition of samplers on one task: a study for each sampler and seed on one storage.

One baseline, one analysis and one prior serve all of them, and every setting is evaluated once. A competition that was
stopped goes on where it was, and several processes may run one together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import optuna

from ssdtune.errors import ConfigError, StorageError
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import Track, silent
from ssdtune.samplers.table import choose_sampler
from ssdtune.study.create import check_suits, write_study
from ssdtune.study.lost import release_lost_trials
from ssdtune.study.prior import StudyPrior, fix_prior, keep_prior, read_prior
from ssdtune.study.record import StudyRecord, read_record
from ssdtune.study.run import method_seed, run_study
from ssdtune.study.storage import load_study, study_names
from ssdtune.study.trials import Known, count_trials, known_outcomes
from ssdtune.studyfile import StudyFile
from ssdtune.task import Task
from ssdtune.unlearning.method import Unlearner

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One sampler with one seed."""

    sampler: str
    seed: int

    def study_name(self, competition: str) -> str:
        """Name of its study."""
        return f"{competition}-{self.sampler}-s{self.seed}"


Studies = dict[Entry, optuna.Study]
OnStudy = Callable[[Entry, optuna.Study], None]


def entries_of(samplers: Sequence[str], seeds: Sequence[int]) -> list[Entry]:
    """All entries, seed by seed, so that every sampler has run once early on.

    Raises
    ------
    ConfigError : no sampler, or one that is not known.
    """
    samplers = list(dict.fromkeys(samplers))
    if not samplers:
        raise ConfigError("no samplers to compete", "--samplers", "name some, as in spectrum,tpe")
    for name in samplers:
        choose_sampler(name)
    return [Entry(name, seed) for seed in seeds for name in samplers]


def open_competition(
    name: str,
    entries: Sequence[Entry],
    storage: optuna.storages.BaseStorage,
    measure: Callable[[], StudyRecord],
    study_file: StudyFile | None = None,
) -> Studies:
    """The studies of a competition: those that are there, and new ones for the others.

    measure : gives the record of a new study, see ``measure_record``; asked only if no study is there yet.
    study_file : what the competition is of; studies that are there must be of the same.

    Raises
    ------
    StorageError : a study of that name is no part of this competition, or the storage cannot be written.
    """
    present = set(study_names(storage))
    studies = {
        entry: load_study(entry.study_name(name), storage) for entry in entries if entry.study_name(name) in present
    }
    record = read_record(next(iter(studies.values()))) if studies else measure()
    wanted = _shared(study_file.to_json()) if study_file is not None else None
    for entry in entries:
        check_suits(entry.sampler, record.chosen.method)
    for study in studies.values():
        present_record = read_record(study)
        other_file = wanted is not None and _shared(present_record.study_file or {}) != wanted
        if other_file or _common(present_record) != _common(record):
            raise StorageError(
                "the study is there already, made with other settings",
                study.study_name,
                "choose another --name, or delete it",
            )
        release_lost_trials(study)
    for entry in entries:
        if entry not in studies:
            own = {"sampler": entry.sampler, "seed": entry.seed}
            settings = choose_sampler(entry.sampler).settings
            section = record.search.model_copy(update=own)
            file = record.study_file and {
                **record.study_file,
                "name": entry.study_name(name),
                "search": {**record.study_file["search"], **own},
            }
            made = replace(record, search=section, sampler=settings, study_file=file)
            studies[entry] = write_study(entry.study_name(name), made, storage)
    return {entry: studies[entry] for entry in entries}


def share_prior(studies: Studies, unlearner: Unlearner) -> StudyPrior | None:
    """Give all studies whose samplers use the prior the same one, kept or made now; None if there is none."""
    users = [study for entry, study in studies.items() if choose_sampler(entry.sampler).uses_prior]
    if not users:
        return None
    first = ([study for study in users if read_prior(study) is not None] or users)[0]
    shared = fix_prior(first, read_record(first), unlearner)
    for study in users:
        if shared is not None and read_prior(study) is None:
            keep_prior(study, shared)
    return shared


def run_competition(
    studies: Studies,
    task: Task,
    unlearner: Unlearner,
    trials: int,
    *,
    batch_size: int | None = None,
    on_study: OnStudy | None = None,
    track: Track = silent,
) -> None:
    """Run every study until it has ``trials`` finished trials; measures are shared between all of them.

    ``on_study`` is called after each study.

    Raises
    ------
    As ``run_study``, and ``share_prior``.
    """
    share_prior(studies, unlearner)
    known: Known = {}
    for study in studies.values():
        record = read_record(study)
        known = known_outcomes(study, record, unlearner, method_seed(record)) | known
    left = sum(max(trials - count_trials(study).finished, 0) for study in studies.values())
    ticks = iter(track(range(left), "trials", left))
    next(ticks, None)  # draws the bar
    evaluator = Evaluator(task, batch_size=batch_size)
    for entry, study in studies.items():
        run_study(
            study,
            task,
            unlearner,
            trials=trials,
            known=known,
            batch_size=batch_size,
            stop_early=False,  # every sampler's trials are compared, and its measures serve the others
            evaluator=evaluator,
            track=_advancing(ticks),
        )
        if on_study is not None:
            on_study(entry, study)
    for _ in ticks:  # trials that other processes have run
        pass


def _advancing(ticks: Iterator[int]) -> Track:
    """A track that moves one bar on for every item taken."""

    def moved(items: Iterable[T], description: str, total: int) -> Iterator[T]:
        for item in items:
            yield item
            next(ticks, None)

    return moved


def _shared(study_file: Mapping[str, Any]) -> dict[str, Any]:
    """A study file without what differs from study to study."""
    own = ("sampler", "seed", "trials")
    search = {key: value for key, value in study_file.get("search", {}).items() if key not in own}
    return {**study_file, "name": "", "search": search}


def _common(record: StudyRecord) -> dict[str, object]:
    """What all studies of a competition have in common."""
    own = {"sampler": "tpe", "seed": 0, "trials": 1}
    return {
        "identity": dict(record.identity),
        "rule": record.rule,
        "fisher": record.fisher,
        "method": dict(record.method),
        "search": record.search.model_copy(update=own),
    }
