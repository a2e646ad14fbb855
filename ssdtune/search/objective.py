"""One trial: dampen, reconstruct every scored set, score; everything measured is recorded as plain values."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState

from ssdtune.errors import TrialError
from ssdtune.evaluation import DEFAULT_BATCH_SIZE, evaluate
from ssdtune.search.facts import Measured, StudyFacts, as_recorded
from ssdtune.search.interrupts import Interrupts
from ssdtune.search.records import NON_FINITE, recorded_qualities
from ssdtune.search.samplers import ERROR, SEED_NUMBER, ReproducibleSampler
from ssdtune.search.space import Analysis, SearchSpace, Setting, coordinates
from ssdtune.task import Task, move

CONSTRAINT = "min_retained"
UNTOUCHED = "untouched model"

Memo = dict[Setting, tuple[Measured, str]]
"""Measures already taken, and the trial they come from, by effective setting."""


def memo_of(study: optuna.Study, facts: StudyFacts) -> Memo:
    """The measures that a study has recorded; may be merged with those of other studies on the same inputs."""
    memo: Memo = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        recorded = trial.user_attrs
        if "effective_alpha" in recorded:
            key = Setting(recorded["effective_alpha"], trial.params["lambda"], facts.search.exponent)
            names = [*facts.baseline, NON_FINITE]
            measured = {name: recorded[name] for name in names if name in recorded}
            memo.setdefault(key, (measured, f"trial {trial.number} of {study.study_name}"))
    return memo


class OverBudget(Exception):
    """Another process took the last place of the budget at the same moment; this trial gives way, unevaluated."""


class Objective:
    """The objective of a study, called by Optuna with each trial.

    ``memo`` is shared and grows: settings that dampen alike are evaluated once. A trial whose output is not finite is
    finished, infeasible and worst-scored, with the sets concerned in ``non_finite``. ``budget`` is the number of
    finished trials that the study is to have in all.

    Raises
    ------
    TrialError : dampening or evaluation failed; the trial is then recorded as failed with its ``error``.
    OverBudget : the earlier trials, finished or under way, make up the budget already.
    """

    def __init__(
        self,
        task: Task,
        analysis: Analysis,
        facts: StudyFacts,
        memo: Memo,
        *,
        budget: int | None = None,
        sampler: ReproducibleSampler | None = None,
        worker: str = "",
        interrupts: Interrupts | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        self.task, self.analysis, self.facts, self.memo = task, analysis, facts, memo
        self.space = SearchSpace.of(facts.search)
        self.sampler, self.worker, self.batch_size = sampler, worker, batch_size
        self.budget, self.interrupts = budget, interrupts or Interrupts()
        self.current = -1  # number of the trial under way or last run

    def __call__(self, trial: optuna.Trial) -> float:
        self.current = trial.number
        trial.set_user_attr("worker", self.worker)
        if self.sampler is not None and trial.number in self.sampler.seed_numbers:
            trial.set_user_attr(SEED_NUMBER, self.sampler.seed_numbers[trial.number])
        if self.budget is not None and _earlier(trial) >= self.budget:
            raise OverBudget
        setting = self.space.suggest(trial)
        try:
            with self.interrupts.welcome():
                recorded = self.measure(setting)
        except Exception as reason:
            what = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
            trial.set_user_attr(ERROR, f"{type(reason).__name__}: {what}")
            todo = "finished trials are kept; mend the cause and run again"
            raise TrialError(f"trial {trial.number} failed ({what})", _where(trial, setting), todo) from reason
        return self.record(trial, setting, recorded)

    def measure(self, setting: Setting) -> dict[str, Any]:
        """Measures and seconds of one setting, from the memo where it dampens like one already measured."""
        rho, kappa = coordinates(self.analysis, setting)
        effective = setting.effective
        recorded: dict[str, Any] = {"effective_alpha": effective.alpha, "rho": rho, "kappa": kappa}
        known = (self.facts.baseline, UNTOUCHED) if rho == 0 else self.memo.get(effective)
        if known is not None:
            return recorded | dict(known[0]) | {"reused_from": known[1]}
        start = time.perf_counter()
        params = move(self.analysis.dampen(setting.alpha, setting.lam, setting.exponent), self.task.device)
        dampened = time.perf_counter()
        measures = evaluate(self.task, params, batch_size=self.batch_size)
        done = time.perf_counter()
        recorded |= as_recorded(measures.summary())
        broken = [name for name in measures.values if not math.isfinite(measures.quality(name))]
        if broken:
            recorded[NON_FINITE] = broken
        return recorded | {"seconds_dampen": dampened - start, "seconds_evaluate": done - dampened}

    def record(self, trial: optuna.Trial, setting: Setting, recorded: Mapping[str, Any]) -> float:
        """Score the measures and store them with the trial; returns the objective's value."""
        qualities = recorded_qualities(self.facts, recorded)
        score = self.facts.rule(*qualities)
        raw = replace(self.facts.rule, kind="raw")(*qualities)
        attributes = {
            "feasible": score.feasible,
            "retained": score.retained,
            "remembered": score.remembered,
            "raw_score": raw.value,
            **recorded,
        }
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        trial.set_constraint(CONSTRAINT, score.violation)
        names = [*self.facts.baseline, NON_FINITE]
        measured = {name: recorded[name] for name in names if name in recorded}
        self.memo.setdefault(setting.effective, (measured, f"trial {trial.number} of {trial.study.study_name}"))
        return score.value


def _earlier(trial: optuna.Trial) -> int:
    """Trials of lower numbers that are finished or under way."""
    counted = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
    return sum(other.number < trial.number for other in counted)


def _where(trial: optuna.Trial, setting: Setting) -> str:
    return f"study '{trial.study.study_name}', alpha {setting.alpha:.6g}, lambda {setting.lam:.6g}"
