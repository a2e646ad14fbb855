"""Scoring one setting with as few slices as its outcome needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ssdtune.evaluation import mean
from ssdtune.score import Score, ScoreRule
from ssdtune.scoring.estimate import Estimate, estimate_mean
from ssdtune.scoring.evaluator import Evaluator, Measured
from ssdtune.scoring.prepared import Params
from ssdtune.scoring.sequential import FIRST_LOOK, FORGET, RETAIN, Reason, Standing, look, next_look


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
    """Scores settings one after the other; knows the best of them.

    evaluator : of the task. rule : the study's score. stop_early : whether trials may end before their last slice.
    """

    def __init__(self, evaluator: Evaluator, rule: ScoreRule, *, stop_early: bool = True) -> None:
        self.evaluator, self.rule, self.stop_early = evaluator, rule, stop_early
        self.best: Standing | None = None

    def stand_against(self, score: Score) -> None:
        """Know of a fully evaluated trial, of another process or an earlier run, whose slices are not at hand."""
        if self.best is None or self.best.beaten_by(score):
            self.best = Standing(score)

    def __call__(self, params: Params) -> Scored:
        """Measure one setting; as its score is known, it is for ``stand_against`` or ``keep`` to make it the best."""
        found = self.evaluator.start(params)
        reason = self._until_decided(found) if self.stop_early and self.best is not None else None
        if reason is None and not found.broken:
            found.finish()
        else:
            for name in found.columns:
                found.extend(name, FIRST_LOOK)
        return self._scored(found, None if found.broken else reason)

    def keep(self, scored: Scored, score: Score) -> None:
        """Take a complete trial for the best if it is."""
        if scored.stopped is None and (self.best is None or self.best.beaten_by(score)):
            self.best = Standing(score, dict(scored.columns))

    def controls(self, name: str) -> np.ndarray:
        """(k, N) known qualities of a set: the untouched model's, and the best trial's where at hand."""
        known = [self.evaluator.untouched().quality(name)]
        if self.best is not None and name in self.best.columns:
            known.append(self.best.columns[name])
        return np.array(known)

    def _until_decided(self, found: Measured) -> Reason | None:
        controls = {name: self.controls(name) for name in (RETAIN, FORGET)}
        targets = dict.fromkeys(controls, FIRST_LOOK)
        while True:
            for name, stop in targets.items():
                found.extend(name, stop)
            if found.broken:
                return None
            verdict = look(found, controls, self.rule, self.best)
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
                if stopped is None:
                    means[f"{name}_{measure}"] = mean(column[:seen])
                    continue
                known = self.evaluator.untouched().columns[name][measure][None]
                estimate = estimate_mean(column[:seen], self.controls(name), slice(0, seen))
                if measure != next(iter(columns)):
                    estimate = estimate_mean(column[:seen], known, slice(0, seen))
                estimates.setdefault(name, estimate)
                means[f"{name}_{measure}"] = estimate.mean
        complete = {name: found.quality(name) for name in found.columns} if stopped is None and not found.broken else {}
        return Scored(means, estimates, stopped, found.broken, sum(found.done.values()), complete)
