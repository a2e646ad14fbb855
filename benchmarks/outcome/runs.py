"""Studies of all methods on all tasks, a file of results each, so that a run that was stopped goes on.

One process makes a trained model and runs every study on it that has no file yet. All studies of one model have the
same sampler (TPE), number of trials, seed and name, so that they differ in the method alone; a method's published
settings are the first trials.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.outcome.tasks import Case, make_task
from ssdtune.errors import ConfigError, SsdtuneError
from ssdtune.files import atomic_path
from ssdtune.fisher.analysis import FisherWarning, analyse
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.learning.processes import run_in_processes
from ssdtune.objective.baseline import MIN_GAP
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import silent
from ssdtune.study.create import create_study, enqueue_published
from ssdtune.study.record import read_record, read_trial, setting_of
from ssdtune.study.run import run_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import FINISHED
from ssdtune.studyfile import ScoreSection, SearchSection
from ssdtune.task import Task, model_hash
from ssdtune.unlearning.methods import choose_method

Section = Mapping[str, Any]
Result = dict[str, Any]
"""A file of results: what was run, the untouched model and the oracle, and every trial with its cost and measures."""

METHODS: dict[str, Section] = {
    "ssd": {"name": "ssd"},
    "ssd-long": {"name": "ssd"},
    "ssd-repair": {"name": "ssd-repair"},
    "spectral": {"name": "spectral", "steps": 1},
    "spectral-5": {"name": "spectral", "steps": 5},
    "spectral-repair": {"name": "spectral", "steps": 1, "repair": 20},
    "ft": {"name": "ft"},
    "ng": {"name": "ng"},
}
"""What is compared: sections of a study file by label."""

LONGER = {"ssd-long": 5}
"""Times as many trials, for what SSD comes to where it may cost as much as others."""

GATHERS = ("spectral",)  # methods that take the gradients of all samples themselves, at the analysis' cost
GRADIENT = 3  # slice passes of a slice that is differentiated
RETAIN_WEIGHT = 0.2  # of all searches; other weights are scored from the same trials
TRAINING = {"ssd-repair": 140, "spectral-5": 96, "spectral-repair": 200, "ft": 216, "ng": 432}
"""About how many slice passes a trial takes beside its evaluation, for estimates."""
SMALL_BATCH = 2.0  # times as long as those of an evaluation


@dataclass(frozen=True)
class Plan:
    """What is run: ``methods`` by label, ``bounds`` on retained that are searched, ``trials`` a study, and where."""

    methods: Mapping[str, Section]
    bounds: Sequence[float]
    trials: int
    seed: int
    work: Path
    device: str = "cpu"

    @property
    def folder(self) -> Path:
        return self.work / f"seed{self.seed}-{self.trials}trials"

    def place(self, case: Case, model: int, label: str, bound: float) -> Path:
        return self.folder / f"{case.key}-m{model}" / f"{label}-{bound:g}.json"

    def budget(self, label: str) -> int:
        """Trials of a method's study."""
        return self.trials * LONGER.get(label, 1)

    def missing(self, case: Case, model: int) -> list[tuple[str, float]]:
        """Studies that have no file yet, or one of other options; none of a model that is no valid task."""
        if (self.folder / f"{case.key}-m{model}" / "invalid").exists():
            return []
        return [
            (label, bound)
            for bound in self.bounds
            for label, section in self.methods.items()
            if (kept := read(self.place(case, model, label, bound))) is None or kept["section"] != dict(section)
        ]


def choose(labels: Sequence[str], more: Sequence[str]) -> dict[str, Section]:
    """Sections by label, those of ``more`` given as LABEL=JSON; methods that are not there are left out, and said.

    Raises
    ------
    SystemExit : no such label.
    """
    table = METHODS | {label: json.loads(text) for label, _, text in (words.partition("=") for words in more)}
    unknown = [label for label in labels if label not in table]
    if unknown:
        raise SystemExit(f"error: no method '{unknown[0]}', --methods, choose among {', '.join(table)}")
    found = {}
    for label in labels or table:
        try:
            choose_method(table[label])
            found[label] = table[label]
        except ConfigError as reason:
            say(f"left out {label}: {reason}")
    return found


def estimate(plan: Plan, case: Case) -> float:
    """Seconds on one core for what is missing of a task."""
    seconds, a_pass = 0.0, case.measuring / case.slices
    for model in range(case.models):
        studies = plan.missing(case, model)
        seconds += case.making * (2 if model else 1) * bool(studies)
        for label, _ in studies:
            training = TRAINING.get(label, 0) * a_pass * SMALL_BATCH
            seconds += plan.budget(label) * (case.measuring + training + 0.05)  # and the sampler
    return seconds


def run_all(plan: Plan, cases: Sequence[Case], workers: int) -> None:
    """Run what is missing: one bound after the other, one model of each task before others, the longest first."""
    jobs = [
        (replace(plan, bounds=[bound]), case, model)
        for bound in plan.bounds
        for several in (False, True)
        for case in sorted(cases, key=lambda case: -estimate(plan, replace(case, models=1)))
        for model in range(case.models)
        if (model > 0) == several
    ]
    left = [job for job in jobs if job[0].missing(*job[1:])]
    run_in_processes(run_model, left, workers, track=silent, description="outcome")


def run_model(job: tuple[Plan, Case, int]) -> None:
    """Every missing study of one trained model."""
    plan, case, model = job
    torch.set_num_threads(1)
    quiet_optuna()
    started = time.perf_counter()
    made = Made(make_task(case, model, plan.device), case.family, model)
    folder = plan.folder / f"{case.key}-m{model}"
    folder.mkdir(parents=True, exist_ok=True)
    if made.gap < MIN_GAP:
        (folder / "invalid").write_text(f"gap {made.gap:.4f}\n")
        say(f"{folder.name}: nothing to forget, gap {made.gap:.3f}")
        return
    say(f"{folder.name}: made in {time.perf_counter() - started:.0f} s")
    for label, bound in plan.missing(case, model):
        try:
            result = made.search(label, plan.methods[label], bound, plan)
        except SsdtuneError as reason:  # the others go on; this one is tried again in the next run
            say(f"{folder.name}: {label} at {bound:g} failed: {reason}")
            continue
        with atomic_path(plan.place(case, model, label, bound)) as path:
            path.write_text(json.dumps(result))
        say(f"{folder.name}: {label} at {bound:g} in {result['seconds']:.0f} s")


@dataclass(frozen=True)
class Made:
    """A task with one trained model, and what its studies share; ``studies`` : those made here, by label."""

    task: Task
    family: str
    model: int
    studies: dict[str, optuna.Study] = field(default_factory=dict)

    @cached_property
    def gap(self) -> float:
        """q_forget of the model above that of the oracle."""
        assert self.task.oracle is not None
        oracle = evaluate(replace(self.task, model=self.task.oracle))
        return evaluate(self.task).quality("forget") - oracle.quality("forget")

    @cached_property
    def analysed(self) -> tuple[FisherAnalysis, float]:
        """(the analysis, seconds it took)"""
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FisherWarning)  # few samples are the point of many recipes
            return analyse(self.task), time.perf_counter() - started

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.task)

    def search(self, label: str, section: Section, bound: float, plan: Plan) -> Result:
        """One study, as it is kept; ``analysis`` is the cost of all samples' gradients if the method needs them."""
        asked: list[FisherAnalysis] = []

        def analysis() -> FisherAnalysis:
            asked.append(self.analysed[0])
            return asked[0]

        study = create_study(
            self.task,
            method=section,
            search=SearchSection(sampler="tpe", trials=plan.budget(label), seed=plan.seed + self.model),
            score=ScoreSection(retain_weight=RETAIN_WEIGHT, min_retained=bound),
        )
        record, started = read_record(study), time.perf_counter()
        method, options = record.chosen.method, record.chosen.options
        before = self.analysed[1] if "analysed" in self.__dict__ else 0.0
        unlearner = method.prepare(self.task, options, analyse=analysis, track=silent)
        enqueue_published(study, record.chosen, record.knobs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            run_study(study, self.task, unlearner, evaluator=self.evaluator)
        self.studies[label] = study
        slices = len(self.task.retain) + len(self.task.forget)
        return {
            "task": self.task.name,
            "family": self.family,
            "model": self.model,
            "hash": model_hash(self.task.model),
            "label": label,
            "section": dict(section),
            "min_retained": bound,
            "quality": record.quality,
            "floor": record.rule.floor,
            "baseline": record.baseline,
            "oracle": record.oracle,
            "analysis": GRADIENT * slices if asked or section["name"] in GATHERS else 0,
            "preparation": unlearner.preparation,
            "seconds": time.perf_counter() - started + (before if asked else 0.0),
            "trials": [
                {"setting": setting_of(trial, record), **read_trial(trial)}
                for trial in study.get_trials(deepcopy=False, states=FINISHED)
            ],
        }


def read(path: Path) -> Result | None:
    if not path.exists():
        return None
    found: Result = json.loads(path.read_text())
    return found


def read_all(plan: Plan, cases: Sequence[Case]) -> Iterator[Result]:
    """Every result there is of what is planned.

    Raises
    ------
    SystemExit : results of one trained model are of two, as it was made again by other code or elsewhere.
    """
    for case in cases:
        for model in range(case.models):
            places = [plan.place(case, model, label, bound) for label in plan.methods for bound in plan.bounds]
            found = [result for result in map(read, places) if result is not None]
            if len({result["hash"] for result in found}) > 1:
                raise SystemExit(f"error: results of different models, {places[0].parent}, delete it and run again")
            yield from found


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
