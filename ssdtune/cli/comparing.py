"""Running a comparison of methods: one after the other here, or several at a time in processes of their own."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from ssdtune.cli.console import count, track
from ssdtune.cli.study_inputs import analysis_of, prepare_timed, print_warnings
from ssdtune.device import set_threads
from ssdtune.errors import SsdtuneError, StorageError
from ssdtune.learning.processes import run_rounds
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import Track, silent
from ssdtune.study.compare import Budget, Rival, by_method, price_of, run_rivals, spent
from ssdtune.study.cost import cost_of
from ssdtune.study.record import read_trial
from ssdtune.study.run import setting_seed
from ssdtune.study.storage import load_study, open_storage, quick_commits, quiet_optuna
from ssdtune.study.trials import best_of, count_trials, scored_trials
from ssdtune.studyfile import StudyFile
from ssdtune.task import Task
from ssdtune.unlearning.method import run

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from ssdtune.cli.computing import OnRay
    from ssdtune.report.view import StudyView
    from ssdtune.study.record import StudyRecord
    from ssdtune.unlearning.method import Params, Unlearner
    from ssdtune.unlearning.methods import Chosen

Group = Mapping[Rival, "optuna.Study"]
"""The studies of one method."""


class Place:
    """A task, and what all methods share: prepared data, and a Fisher analysis that is made at most once.

    on_ray : computes the analysis and measures trials, several at once.
    """

    def __init__(self, task: Task, study_file: StudyFile, on_ray: OnRay | None = None) -> None:
        self.task, self.study_file = task, study_file
        self.evaluator = Evaluator(task)
        self._pool = on_ray.pool if on_ray else None
        crew = on_ray.crew if on_ray else None
        self._analyse = cache(analysis_of(task, study_file.fisher, silent, crew))  # a terminal has one bar at a time
        self._warned = False

    def prepare(self, chosen: Chosen) -> tuple[Unlearner, float]:
        """The method made ready, and the seconds that takes, the analysis anew."""
        unlearner, seconds = prepare_timed(self.task, chosen, self._analyse, silent)
        if unlearner.analysis is not None and not self._warned:
            print_warnings(unlearner.analysis)
            self._warned = True
        return unlearner, seconds

    def run_method(self, group: Group, budget: Budget, bar: Bar) -> None:
        """All studies of a method; what it fails of is said, and the others may go on.

        Raises
        ------
        StorageError, KeyboardInterrupt : finished trials are kept.
        """
        if all(budget.is_spent(rival, study) for rival, study in group.items()):
            return
        label, chosen = next((rival.label, rival.chosen) for rival in group)
        try:
            unlearner, seconds = self.prepare(chosen)
            run_rivals(
                group,
                self.task,
                unlearner,
                budget,
                seconds=seconds,
                evaluator=self.evaluator,
                pool=None if budget.trials == 1 else self._pool,  # one trial has no use for several actors
                on_trial=bar.trial,
                on_study=bar.study,
            )
        except StorageError:
            raise
        except SsdtuneError as reason:
            print(f"error: {label}: {' '.join(str(reason).split())}", file=sys.stderr, flush=True)

    def best_params(self, view: StudyView) -> Params:
        """Parameters of a study's best trial, which there is."""
        assert view.best is not None
        unlearner, _ = self.prepare(view.record.chosen)
        return run(unlearner, view.best.setting, setting_seed(view.record, view.best.setting)).params

    def foresee(self, rivals: Sequence[Rival], record: StudyRecord, budget: Budget) -> list[dict[str, Any]]:
        """What the studies of each method will cost at most, from one trial of each that is kept nowhere."""
        labels: dict[str, list[Rival]] = {}
        for rival in rivals:
            labels.setdefault(rival.label, []).append(rival)
        rows = []
        for label, alike in track(labels.items(), "methods", len(labels)):
            unlearner, seconds = self.prepare(alike[0].chosen)
            own = alike[0].record(record)
            price = price_of(alike[0], own, unlearner, self.evaluator, budget)
            rows.append(
                {
                    "method": label,
                    "studies": len(alike),
                    "trials": price.trials,
                    "preparation": price.preparation,
                    "trial_cost": price.cost,
                    "trial_seconds": price.seconds,
                    "cost": len(alike) * (price.preparation + price.trials * price.cost),
                    "seconds": seconds + len(alike) * price.trials * price.seconds,
                }
            )
        return rows


class Bar:
    """How far a comparison is: the bar of a terminal, and a line for each study that is through.

    It counts seconds of trials, by what those of each method took so far. First trials, of which nothing is known,
    count alike, and no time left is told of them.
    """

    def __init__(
        self, groups: Mapping[str, Group], budget: Budget, description: str, show: Track | None = None
    ) -> None:
        self._budget, self._first = budget, budget.trials == 1
        self._prices = {label: 1.0 if self._first else _seconds(group, budget) for label, group in groups.items()}
        self._labels = {study.study_name: rival for group in groups.values() for rival, study in group.items()}
        self.total = round(sum(self._left(rival, study) for each in groups.values() for rival, study in each.items()))
        self.done, self._start = 0.0, time.monotonic()
        show = show or (count if self._first else track)
        self._ticks = iter(show(range(self.total), description, self.total))
        next(self._ticks, None)  # draws the bar

    def trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        before = int(self.done)
        self.done += self._step(study, trial)
        for _ in range(min(int(self.done), self.total) - before):
            next(self._ticks, None)

    def study(self, study: optuna.Study) -> None:
        rival, best = self._labels[study.study_name], best_of(scored_trials(study))
        found = "no trial evaluated in full"
        if best is not None:
            found = f"best {best.score.value:.4f}" + ("" if best.score.feasible else " infeasible")
        words = [f"{rival.label} seed {rival.seed}: {found} of {count_trials(study).finished} trials"]
        words.append(f"{spent(study):.0f} passes in {timedelta(seconds=round(cost_of(study).total))}")
        if not self._first:
            speed = min(1.0, (time.monotonic() - self._start) / self.done) if self.done else 1.0  # several at once
            words.append(f"{timedelta(seconds=round(max(self.total - self.done, 0) * speed))} left")
        print("  ".join(words), file=sys.stderr, flush=True)

    def close(self) -> None:
        for _ in self._ticks:
            pass

    def _left(self, rival: Rival, study: optuna.Study) -> float:
        if self._budget.is_spent(rival, study):
            return 0.0
        if self._budget.cost is not None:
            return self._prices[rival.label] * (self._budget.cost - min(spent(study), self._budget.cost))
        return self._prices[rival.label] * (self._budget.of(rival) - count_trials(study).finished)

    def _step(self, study: optuna.Study, trial: FrozenTrial) -> float:
        passes = float(read_trial(trial).get("cost", 0.0)) if self._budget.cost is not None else 1.0
        return self._prices[self._labels[study.study_name].label] * passes


def run_comparison(
    place: Place, studies: Group, budget: Budget, url: str, opened: optuna.storages.BaseStorage, jobs: int, device: str
) -> None:
    """Run all studies until their budgets are spent, the first trial of every one before the others.

    So each method shows at once what its published setting does, what a trial costs, and whether it runs at all.
    url : of ``opened``, for other processes. jobs : methods at the same time.

    Raises
    ------
    StorageError, KeyboardInterrupt : finished trials are kept.
    """
    groups = by_method(studies)
    parts = {"first trials": Budget(trials=1), "seconds of trials": budget}
    order = sorted(groups, key=lambda label: _seconds(groups[label], Budget()), reverse=jobs > 1)
    if jobs > 1:
        threads = max(1, torch.get_num_threads() // jobs)  # of those that were settled here
        names = {label: {rival: study.study_name for rival, study in groups[label].items()} for label in order}
        rounds = [
            [Job(place.study_file, device, url, names[label], part, threads) for label in order]
            for part in parts.values()
        ]
        run_rounds(run_job, rounds, jobs, track=track, description="methods")
        return
    for description, part in parts.items():
        bar = Bar(groups, part, description)
        try:
            with quick_commits(opened):
                for label in order:
                    place.run_method(groups[label], part, bar)
        finally:
            bar.close()


@dataclass(frozen=True)
class Job:
    """The studies of one method, by name, as another process takes them; ``threads`` : of that process."""

    study_file: StudyFile
    device: str
    url: str
    names: Mapping[Rival, str]
    budget: Budget
    threads: int


def run_job(job: Job) -> None:
    """The work of another process."""
    set_threads(job.threads)
    quiet_optuna()
    place = _place_of(job.study_file.model_dump_json(by_alias=True), job.device)
    storage = open_storage(job.url)
    group = {rival: load_study(name, storage) for rival, name in job.names.items()}
    place.run_method(group, job.budget, Bar(by_method(group), job.budget, "", silent))


@cache
def _place_of(study_file: str, device: str) -> Place:
    """Made once in a process."""
    from ssdtune.mri.task import load_task

    parsed = StudyFile.model_validate_json(study_file)
    return Place(load_task(parsed, device), parsed)


def _seconds(group: Group, budget: Budget) -> float:
    """Of one of a method's finished trials, or of one of their slice passes where these are the budget; 0 of none."""
    found = [cost_of(study) for study in group.values()]
    units = [each.trials if budget.cost is None else each.passes for each in found]
    return sum(each.total for each in found) / max(1.0, sum(units))
