"""Scoring one setting with as few slices as its outcome needs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from ssdtune.objective.estimate import Estimate, estimate_mean
from ssdtune.objective.evaluation import mean
from ssdtune.objective.evaluator import Evaluator, Measured
from ssdtune.objective.prepared import Params
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.objective.stopping import FIRST_LOOK, FORGET, RETAIN, Reason, Standing, look, next_look


@dataclass(frozen=True)
class Scored:
    """What a trial's evaluation gave.

    means : every measure as ``{set}_{measure}``; estimates where the trial stopped early. estimates : of q, by set.
    stopped : why it stopped early, None if it is complete. broken : sets with output that is not finite; the trial's
    score is then known to be the worst, whatever was left. columns : q in scoring order by set, of complete trials.
    """

    means: Mapping[str, float]
    estimates: Mapping[str, Estimate]
    stopped: Reason | None
    broken: list[str]
    slices: int
    columns: Mapping[str, np.ndarray]


class TrialScorer:
    """Scores settings one after the other; knows the best of them, which at first is to leave the model as it is.

    evaluator : of the task. rule : the study's score. stop_early : whether trials may end before their last slice.
    """

    def __init__(self, evaluator: Evaluator, rule: ScoreRule, *, stop_early: bool = True) -> None:
        self.evaluator, self.rule, self.stop_early = evaluator, rule, stop_early
        self.best = Standing(rule(rule.q_retain, rule.q_forget), label="untouched")
        self._best_params: Callable[[], Params] | None = None
        self._shift: dict[str, float] = {}

    def refer_to(self, baseline: Mapping[str, float | None]) -> None:
        """Measure the untouched model; in a shorter number format, what it differs from ``baseline`` (its measures in
        float32) is made good in every trial."""
        found = self.evaluator.untouched()
        if self.evaluator.dtype != torch.float32:
            means = {f"{n}_{m}": mean(column) for n, columns in found.columns.items() for m, column in columns.items()}
            self._shift = {name: known - means[name] for name, known in baseline.items() if known is not None}

    def stand_against(self, score: Score, label: Hashable = None, params: Callable[[], Params] | None = None) -> None:
        """Know of a fully evaluated trial, perhaps of another process or an earlier run.

        ``params`` makes its parameters: its slices are then measured before it is first compared with, as if it had
        been run here. ``label`` says which trial it is.
        """
        if self.best.beaten_by(score) and self.best.label != label:
            self.best, self._best_params = Standing(score, label=label), params

    def __call__(self, setting: Params | Measured) -> Scored:
        """Measure one setting, given by its parameters or as begun already; as its score is known, it is for
        ``stand_against`` or ``keep`` to make it the best."""
        found = setting if isinstance(setting, Measured) else self.evaluator.start(setting)
        reason = self._until_decided(found) if self.stop_early else None
        if reason is None and not found.broken:
            found.finish()
        else:
            for name in found.columns:
                found.extend(name, FIRST_LOOK)
        return self._scored(found, None if found.broken else reason)

    def keep(self, scored: Scored, score: Score, label: Hashable = None) -> None:
        """Take a complete trial for the best if it is."""
        if scored.stopped is None and self.best.beaten_by(score):
            self.best, self._best_params = Standing(score, dict(scored.columns), label), None

    def controls(self, name: str) -> np.ndarray:
        """(k, N) known qualities of a set: the untouched model's, and the best trial's where at hand."""
        known = [self.evaluator.untouched().quality(name)]
        if name in self.best.columns:
            known.append(self.best.columns[name])
        return np.array(known)

    def _q_shift(self) -> tuple[float, float]:
        quality = next(iter(self.evaluator.untouched().columns[RETAIN]))
        return self._shift.get(f"{RETAIN}_{quality}", 0.0), self._shift.get(f"{FORGET}_{quality}", 0.0)

    def _measure_the_best(self) -> None:
        if self._best_params is not None:
            found = self.evaluator.start(self._best_params())
            for name in (RETAIN, FORGET):
                found.extend(name, len(self.evaluator.prepared(name)))
            columns = {name: found.quality(name) for name in (RETAIN, FORGET)}
            self.best, self._best_params = Standing(self.best.score, columns, self.best.label), None

    def _until_decided(self, found: Measured) -> Reason | None:
        self._measure_the_best()
        controls = {name: self.controls(name) for name in (RETAIN, FORGET)}
        targets = dict.fromkeys(controls, FIRST_LOOK)
        while True:
            for name, stop in targets.items():
                found.extend(name, stop)
            if found.broken:
                return None
            verdict = look(found, controls, self.rule, self.best, self._q_shift())
            if verdict.reason is not None and any(e.seen < e.total for e in (verdict.retain, verdict.forget)):
                return verdict.reason
            if all(found.done[name] == len(controls[name][0]) for name in controls):
                return None
            targets = next_look(found, verdict, self.rule)

    def _scored(self, found: Measured, stopped: Reason | None) -> Scored:
        means: dict[str, float] = {}
        estimates: dict[str, Estimate] = {}
        for name, columns in found.columns.items():
            seen = found.done[name]
            for measure, column in columns.items():
                if found.broken and seen < len(column):
                    means[f"{name}_{measure}"] = np.nan
                    continue
                if stopped is None:
                    means[f"{name}_{measure}"] = mean(column[:seen]) + self._shift.get(f"{name}_{measure}", 0.0)
                    continue
                known = self.evaluator.untouched().columns[name][measure][None]
                estimate = estimate_mean(column[:seen], self.controls(name), slice(0, seen))
                if measure != next(iter(columns)):
                    estimate = estimate_mean(column[:seen], known, slice(0, seen))
                estimate = replace(estimate, mean=estimate.mean + self._shift.get(f"{name}_{measure}", 0.0))
                estimates.setdefault(name, estimate)
                means[f"{name}_{measure}"] = estimate.mean
        complete = {name: found.quality(name) for name in found.columns} if stopped is None and not found.broken else {}
        return Scored(means, estimates, stopped, found.broken, sum(found.done.values()), complete)
