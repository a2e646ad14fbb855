"""One trial: dampen, reconstruct, score; everything measured is recorded as plain values."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import TrialError
from ssdtune.samplers.recorded import (
    EXACT,
    MEASURES,
    NON_FINITE,
    ORIGIN,
    REUSED,
    SEED_NUMBER,
    STOPPED,
    WORKER,
    recorded,
)
from ssdtune.samplers.space import ALPHA, LAMBDA, Analysis, SearchSpace, Setting, coordinates
from ssdtune.samplers.spectrum import UNCLIPPED
from ssdtune.samplers.table import ERROR, ReproducibleSampler
from ssdtune.study.facts import Measured, StudyFacts
from ssdtune.study.interrupts import Interrupts
from ssdtune.study.measuring import Coming, Fast, Measurement, Plain, none_known
from ssdtune.study.records import FINISHED, ScoredTrial, best_of, recorded_qualities, score_trials
from ssdtune.task import Task

CONSTRAINT = "min_retained"
UNTOUCHED = "untouched model"

Dampening = tuple[float, float, float]
"""What a setting does: (rho, lambda, exponent). Equal ones select the same parameters and shrink them alike."""

Memo = dict[Dampening, tuple[Measured, str]]
"""Measures already taken in full, and the trial they come from."""


def memo_of(study: optuna.Study, facts: StudyFacts) -> Memo:
    """The measures that a study has recorded; may be merged with those of other studies on the same inputs."""
    memo: Memo = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        values = recorded(trial)
        if "rho" in values:
            key = (values["rho"], trial.params["lambda"], facts.search.exponent)
            memo.setdefault(key, (_measures(facts, values), f"trial {trial.number} of {study.study_name}"))
    return memo


class OverBudget(Exception):
    """Another process took the last place of the budget at the same moment; this trial gives way, unevaluated."""


class Objective:
    """The objective of a study, called by Optuna with each trial.

    ``memo`` is shared and grows: settings that dampen alike are evaluated once. A trial that is clearly not the best is
    stopped early, and is recorded as pruned with its estimate. A trial whose output is not finite is finished,
    infeasible and worst-scored, with the sets concerned in ``non_finite``. ``budget`` is the number of finished trials
    that the study is to have in all. ``fast`` does the evaluations; without it every trial is evaluated the plain way,
    in full, whatever was measured before.

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
        fast: Fast | None = None,
    ) -> None:
        self.task, self.analysis, self.facts, self.memo = task, analysis, facts, memo
        self.space = SearchSpace.of(facts.search)
        self.sampler, self.worker, self.fast = sampler, worker, fast
        self.budget, self.interrupts = budget, interrupts or Interrupts()
        self.current = -1  # number of the trial under way or last run
        self._plain = Plain(task)
        self._stopped: dict[Dampening, dict[str, Any]] = {}  # trials stopped early, by what they do
        self._scored: dict[int, ScoredTrial] = {}  # the study's finished trials by number
        self._idle_since = time.perf_counter()

    def __call__(self, trial: optuna.Trial) -> float:
        self.current = trial.number
        trial.set_user_attr(ORIGIN, self._origin(trial))
        trials = self._trials(trial)
        if self.budget is not None and _earlier(trial, trials) >= self.budget:
            raise OverBudget
        setting = self.space.suggest(trial)
        self._know_the_best(trials)
        searching = time.perf_counter() - self._idle_since
        try:
            with self.interrupts.welcome():
                measured = self.measure(setting, partial(self._coming, trial, trials))
        except Exception as reason:
            what = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
            trial.set_user_attr(ERROR, f"{type(reason).__name__}: {what}")
            todo = "finished trials are kept; mend the cause and run again"
            raise TrialError(f"trial {trial.number} failed ({what})", _where(trial, setting), todo) from reason
        self._idle_since = time.perf_counter()
        return self.record(trial, setting, {**measured, "seconds_search": searching})

    def measure(self, setting: Setting, coming: Coming = none_known) -> dict[str, Any]:
        """Measures, slices and seconds of one setting, from the memo where it dampens like one already measured."""
        rho, kappa = coordinates(self.analysis, setting)
        where = {"effective_alpha": setting.effective.alpha, "rho": rho, "kappa": kappa}
        if self.fast is None:
            return {**where, **self._plain(self.analysis, setting).values, EXACT: True}
        known = self._known(rho, setting)
        return {**where, **(self.fast(self.analysis, setting, coming).values if known is None else known)}

    def record(self, trial: optuna.Trial, setting: Setting, measured: Mapping[str, Any]) -> float:
        """Score the measures and store them with the trial; returns the objective's value.

        Raises
        ------
        optuna.TrialPruned : the trial was stopped early; its estimate is then its last reported value.
        """
        facts, name = self.facts, f"trial {trial.number} of {trial.study.study_name}"
        qualities = recorded_qualities(facts, measured)
        score = facts.rule(*qualities)
        attributes = {
            "feasible": score.feasible,
            "retained": score.retained,
            "remembered": score.remembered,
            "raw_score": replace(facts.rule, kind="raw")(*qualities).value,
            **self._unclipped(qualities),
            **measured,
        }
        trial.set_user_attr(MEASURES, attributes)
        trial.set_constraint(CONSTRAINT, score.violation)
        key = _dampening(measured["rho"], setting)
        if STOPPED in measured:
            kept = {value: measured[value] for value in measured if not value.startswith("seconds_")}
            self._stopped.setdefault(key, {**kept, "slices": 0, REUSED: name})
            trial.report(score.value, int(measured["step"]))
            raise optuna.TrialPruned(measured[STOPPED])
        self.memo.setdefault(key, (_measures(facts, measured), name))
        if self.fast is not None:
            self.fast.keep(setting, score)
        return score.value

    def _known(self, rho: float, setting: Setting) -> dict[str, Any] | None:
        """What is known of a setting's dampening without measuring it."""
        key = _dampening(rho, setting)
        known = (self.facts.baseline, UNTOUCHED) if rho == 0 else self.memo.get(key)
        return {**known[0], REUSED: known[1]} if known is not None else self._stopped.get(key)

    def _coming(self, trial: optuna.Trial, trials: Sequence[FrozenTrial], most: int) -> list[Setting]:
        """Settings of the next trials that are to be measured; none while others run or are asked for."""
        alone = all(other.state.is_finished() or other.number == trial.number for other in trials)
        if self.sampler is None or self.budget is None or not alone:
            return []
        left = self.budget - _earlier(trial, trials) - 1
        proposed = self.sampler.coming(trial.study, trials[trial.number], self.space.distributions)
        settings = (Setting(params[ALPHA], params[LAMBDA], self.space.exponent) for params in islice(proposed, left))
        new = (one for one in settings if self._known(coordinates(self.analysis, one)[0], one) is None)
        return list(islice(new, most))

    def _unclipped(self, qualities: tuple[float, float]) -> dict[str, float]:
        """retained and remembered without the clipping to [0, 1], for samplers that model them."""
        rule, (retain, forget) = self.facts.rule, qualities
        if retain != retain or forget != forget or rule.q_forget <= rule.floor:
            return {}
        unclipped = (retain / rule.q_retain, (forget - rule.floor) / (rule.q_forget - rule.floor))
        return {f"{name}{UNCLIPPED}": value for name, value in zip(("retained", "remembered"), unclipped, strict=True)}

    def _origin(self, trial: optuna.Trial) -> dict[str, Any]:
        seed = self.sampler.seed_numbers.get(trial.number) if self.sampler is not None else None
        return {WORKER: self.worker} if seed is None else {WORKER: self.worker, SEED_NUMBER: seed}

    def _trials(self, trial: optuna.Trial) -> Sequence[FrozenTrial]:
        """The study's trials when this one began."""
        known = self.sampler.trials.get(trial.number) if self.sampler is not None else None
        return trial.study.get_trials(deepcopy=False) if known is None else known

    def _know_the_best(self, trials: Sequence[FrozenTrial]) -> None:
        if self.fast is not None:
            new = [trial for trial in trials if trial.number not in self._scored]
            self._scored |= {item.number: item for item in score_trials(new, self.facts, self.facts.rule)}
            best = best_of([self._scored[trial.number] for trial in trials if trial.number in self._scored])
            if best is not None:
                self.fast.stand_against(self.analysis, best.setting, best.score)


def _dampening(rho: float, setting: Setting) -> Dampening:
    return rho, setting.lam, setting.exponent


def _measures(facts: StudyFacts, values: Mapping[str, Any]) -> Measured:
    return {name: values[name] for name in [*facts.baseline, NON_FINITE] if name in values}


def _earlier(trial: optuna.Trial, trials: Sequence[FrozenTrial]) -> int:
    """Trials of lower numbers that are finished or under way."""
    counted = (*FINISHED, TrialState.RUNNING)
    return sum(other.number < trial.number and other.state in counted for other in trials)


def _where(trial: optuna.Trial, setting: Setting) -> str:
    return f"study '{trial.study.study_name}', alpha {setting.alpha:.6g}, lambda {setting.lam:.6g}"


__all__ = ["CONSTRAINT", "UNTOUCHED", "Measurement", "Memo", "Objective", "OverBudget", "memo_of"]
