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
from ssdtune.samplers.space import Analysis
from ssdtune.samplers.table import choose_sampler
from ssdtune.study.create import write_study
from ssdtune.study.facts import StudyFacts, read_facts
from ssdtune.study.objective import Memo, memo_of
from ssdtune.study.prior import StudyPrior, fix_prior, keep_prior, read_prior
from ssdtune.study.records import count_trials
from ssdtune.study.run import release_lost_trials, run_study
from ssdtune.study.storage import load_study, study_names
from ssdtune.studyfile import StudyFile
from ssdtune.task import Task

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
    measure: Callable[[], StudyFacts],
    study_file: StudyFile | None = None,
) -> Studies:
    """The studies of a competition: those that are there, and new ones for the others.

    measure : gives the facts of a new study, see ``measure_facts``; asked only if no study is there yet.
    study_file : what the competition is of; studies that are there must be of the same.

    Raises
    ------
    StorageError : a study of that name is no part of this competition, or the storage cannot be written.
    """
    present = set(study_names(storage))
    studies = {
        entry: load_study(entry.study_name(name), storage) for entry in entries if entry.study_name(name) in present
    }
    facts = read_facts(next(iter(studies.values()))) if studies else measure()
    wanted = _shared(study_file.to_json()) if study_file is not None else None
    for study in studies.values():
        present_facts = read_facts(study)
        other_file = wanted is not None and _shared(present_facts.study_file or {}) != wanted
        if other_file or _common(present_facts) != _common(facts):
            raise StorageError(
                "the study is there already, made with other settings",
                study.study_name,
                "choose another --name, or delete it",
            )
        release_lost_trials(study, storage)
    for entry in entries:
        if entry not in studies:
            own = {"sampler": entry.sampler, "seed": entry.seed}
            settings = choose_sampler(entry.sampler).settings
            section = facts.search.model_copy(update=own)
            file = facts.study_file and {
                **facts.study_file,
                "name": entry.study_name(name),
                "search": {**facts.study_file["search"], **own},
            }
            made = replace(facts, search=section, sampler=settings, study_file=file)
            studies[entry] = write_study(entry.study_name(name), made, storage)
    return {entry: studies[entry] for entry in entries}


def share_prior(studies: Studies, analysis: Analysis) -> StudyPrior | None:
    """Give all studies whose samplers use the prior the same one, kept or predicted now; None if none uses it.

    Raises
    ------
    ConfigError : a sampler cannot do without a prior, and none can be had.
    """
    users = [(entry, study) for entry, study in studies.items() if choose_sampler(entry.sampler).uses_prior]
    if not users:
        return None
    holders = [study for _, study in users if read_prior(study) is not None]
    first = (holders or [users[0][1]])[0]
    shared = fix_prior(first, read_facts(first), analysis)
    for entry, study in users:
        if shared is None and entry.sampler != "spectrum":
            raise ConfigError(f"sampler '{entry.sampler}' needs a prior", study.study_name, "leave it out")
        if shared is not None and read_prior(study) is None:
            keep_prior(study, shared)
    return shared


def run_competition(
    studies: Studies,
    task: Task,
    analysis: Analysis,
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
    share_prior(studies, analysis)
    memo: Memo = {}
    for study in studies.values():
        for setting, measured in memo_of(study, read_facts(study)).items():
            memo.setdefault(setting, measured)
    left = sum(max(trials - count_trials(study).finished, 0) for study in studies.values())
    ticks = iter(track(range(left), "trials", left))
    next(ticks, None)  # draws the bar
    evaluator = Evaluator(task, batch_size=batch_size)
    for entry, study in studies.items():
        run_study(
            study,
            task,
            analysis,
            trials=trials,
            memo=memo,
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


def _common(facts: StudyFacts) -> dict[str, object]:
    """What all studies of a competition have in common."""
    own = {"sampler": "tpe", "seed": 0, "trials": 1}
    return {
        "identity": dict(facts.identity),
        "rule": facts.rule,
        "fisher": facts.fisher,
        "search": facts.search.model_copy(update=own),
    }
