"""A competition of samplers on one task: a study for each sampler and seed on one storage.

One baseline, one analysis and one prior serve all of them, and every setting is evaluated once. A competition that was
stopped goes on where it was, and several processes may run one together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import optuna

from ssdtune.errors import ConfigError, StorageError
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import Track, silent
from ssdtune.samplers.table import choose_sampler
from ssdtune.study.prior import StudyPrior, fix_prior, keep_prior, read_prior
from ssdtune.study.record import StudyRecord, is_ours, read_record
from ssdtune.study.run import method_seed, run_study
from ssdtune.study.series import advancing, with_sections
from ssdtune.study.storage import load_study, study_names
from ssdtune.study.trials import Known, best_of, count_trials, known_outcomes, scored_trials
from ssdtune.task import Task
from ssdtune.unlearning.method import Unlearner


@dataclass(frozen=True)
class Entry:
    """One sampler with one seed."""

    sampler: str
    seed: int

    def study_name(self, series: str) -> str:
        """Name of its study."""
        return f"{series}-{self.sampler}-s{self.seed}"

    def record(self, common: StudyRecord) -> StudyRecord:
        """Its record, from that of any other study of the competition."""
        own = {"sampler": self.sampler, "seed": self.seed}
        return replace(
            common,
            search=common.search.model_copy(update=own),
            sampler=choose_sampler(self.sampler).settings,
            study_file=with_sections(common.study_file, search=own),
        )


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
        choose_sampler(name, "--samplers")
    return [Entry(name, seed) for seed in seeds for name in samplers]


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
    evaluator = Evaluator(task)
    for entry, study in studies.items():
        run_study(
            study,
            task,
            unlearner,
            trials=trials,
            known=known,
            stop_early=False,  # every sampler's trials are compared, and its measures serve the others
            evaluator=evaluator,
            track=advancing(ticks),
        )
        if on_study is not None:
            on_study(entry, study)
    for _ in ticks:  # trials that other processes have run
        pass


def best_known(storage: optuna.storages.BaseStorage, study: optuna.Study) -> float:
    """The best feasible s that a study of the storage has found in full, by the same method on the same task.

    -inf where there is none. Studies that cannot be read, such as a newer ssdtune's, are passed over.
    """
    own = read_record(study)
    best = -math.inf
    for name in study_names(storage):
        with suppress(StorageError):
            other = load_study(name, storage)
            if not is_ours(other.user_attrs) or other.user_attrs.get("identity") != own.identity:
                continue
            record = read_record(other)
            if (record.rule, record.method, record.knobs) == (own.rule, own.method, own.knobs):
                found = best_of(scored_trials(other, record=record))
                best = max(best, found.score.value if found is not None and found.score.feasible else best)
    return best
