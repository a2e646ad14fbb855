"""The four cells: {plain, fast} evaluation x {TPE, spectrum}, each from the trained model to its first good trial."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from benchmarks.harness import Metrics
from benchmarks.headline.tasks import Made
from benchmarks.trial_cost.plain import Qualities, plain_measure, plain_trials, untouched_qualities
from benchmarks.trial_cost.tasks import SSD
from ssdtune.fisher.analysis import analyse
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.score import ScoreRule
from ssdtune.study.cost import cost_of_trials
from ssdtune.study.create import create_study
from ssdtune.study.prior import study_sampler
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.storage import open_storage, quick_commits
from ssdtune.study.trials import FINISHED, score_trials
from ssdtune.studyfile import SearchSection
from ssdtune.unlearning.method import Setting
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

CLOSE = 0.01
SAMPLERS = ("tpe", "spectrum")
WAYS = ("plain", "fast")
PARTS = {"tenth": 0.1, "quarter": 0.25}
"""Remedies: the fast way with the spectrum sampler, where that share of the retain slices is the most samples of each
set that the analysis takes (`[fisher] samples`)."""


def plain_cell(made: Made, sampler: str, target: float, seed: int, most: int) -> Metrics:
    """Every slice of every trial by stock modules, in memory; the analysis and the untouched model's slices first.

    ``measured`` : trials whose plain evaluation was run. ``replay_error`` : where only some were, the largest
    difference of their score from that of the trial that was searched with.
    """
    case = made.case
    study = new_study(made, sampler, seed, most)
    record, unlearner = read_record(study), case.unlearner(study)
    started = time.process_time()
    q = {name: float(values.mean()) for name, values in untouched_qualities(case).items()}
    floor = float(case.task.floor_sources["clean"](q["retain"]))
    record = replace(record, rule=replace(record.rule, q_retain=q["retain"], q_forget=q["forget"], floor=floor))
    factory = study_sampler(study, record, unlearner)
    before = made.analysis_s + time.process_time() - started
    stand_in = StandIn(made, record.rule) if made.plan.timed is not None else None
    trials, reached = 0, False
    started = time.process_time()
    for trial in islice(plain_trials(case, record, factory, stand_in), most):
        trials += 1
        if reached := trial.feasible and trial.score >= target - CLOSE:
            break
    spent = time.process_time() - started
    if stand_in is not None:
        spent += stand_in.plain_s(trials) - stand_in.core_s
    return {
        "seconds": before + spent,
        "trials": trials,
        "censored": not reached,
        "before_s": before,
        "measured": trials if stand_in is None else len(stand_in.timed),
        "replay_error": 0.0 if stand_in is None else stand_in.error,
    }


class StandIn:
    """Every slice of a trial by the fast form, in place of the plain one, which the first ``timed`` trials run too.

    core_s : seconds spent in here. timed : those of the plain evaluations. error : the largest difference of a score.
    """

    def __init__(self, made: Made, rule: ScoreRule) -> None:
        self.core_s, self.error, self.timed = 0.0, 0.0, list[float]()
        self._made, self._rule, self._evaluator = made, rule, Evaluator(made.case.task)

    def __call__(self, setting: Setting) -> Qualities:
        started = time.process_time()
        case = self._made.case
        found = self._evaluator.start(case.analysis.dampen(setting[ALPHA], setting[LAMBDA]))
        found.finish()
        qualities = {name: np.array(found.quality(name)) for name in found.columns}
        if len(self.timed) < (self._made.plan.timed or 0):
            begun = time.process_time()
            plain = plain_measure(case, setting)
            self.timed.append(time.process_time() - begun)
            scores = [self._rule(each["retain"].mean(), each["forget"].mean()).value for each in (plain, qualities)]
            self.error = max(self.error, abs(scores[0] - scores[1]))
        self.core_s += time.process_time() - started
        return qualities

    def plain_s(self, trials: int) -> float:
        """Seconds of the plain evaluation of so many trials: what was timed, and its median for the others."""
        return sum(self.timed) + (trials - len(self.timed)) * float(np.median(self.timed))


class Reached(Exception):
    """A trial was good enough."""


def fast_cell(made: Made, sampler: str, target: float, seed: int, most: int) -> Metrics:
    """A study as it ships, on an SQLite file: created, prepared and run; the analysis before it.

    ``passes`` : slice passes of all of it, the analysis and the untouched model's slices too.
    """
    task, before = made.case.task, made.analysis_s
    reached: list[FrozenTrial] = []

    def look(study: optuna.Study, trial: FrozenTrial) -> None:
        (found,) = score_trials([trial], record)
        if not found.estimated and found.score.feasible and found.score.value >= target - CLOSE:
            reached.append(trial)
            raise Reached

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        storage = open_storage(f"sqlite:///{folder}/studies.db", create=True)
        with quick_commits(storage):
            study = new_study(made, sampler, seed, most, storage)
            record, unlearner = read_record(study), made.case.unlearner(study)
            created = time.process_time() - started
            with suppress(Reached):
                run_study(study, task, unlearner, on_trial=look)
        seconds = time.process_time() - started
        cost = cost_of_trials(study.get_trials(deepcopy=False, states=FINISHED))
    scored = sum(len(samples) for samples in task.scored_sets.values())
    return {
        "seconds": before + seconds,
        "trials": cost.trials,
        "censored": not reached,
        "before_s": before + created,
        "passes": unlearner.preparation + scored + cost.passes,
        "slices": cost.slices,
        "possible": cost.possible,
    }


def part_cell(made: Made, share: float, sampler: str, target: float, seed: int, most: int) -> Metrics:
    """The same with an analysis of a part, which is timed here."""
    started = time.process_time()
    analysis = analyse(made.case.task, samples=max(1, round(share * len(made.case.task.retain))))
    part = replace(made, case=replace(made.case, analysis=analysis), analysis_s=time.process_time() - started)
    return fast_cell(part, sampler, target, seed, most)


def new_study(
    made: Made, sampler: str, seed: int, most: int, storage: optuna.storages.BaseStorage | None = None
) -> optuna.Study:
    search = SearchSection.model_validate({"sampler": sampler, "trials": most, "seed": seed})
    return create_study(made.case.task, storage, name=made.plan.name, method=SSD, search=search)
