"""What a setting is worth: unlearn, reconstruct as few slices as its outcome needs, measure.

``Objective.measure`` takes and returns plain values and knows neither Optuna nor a storage, so that the same call runs
here, in a worker, or in an actor on another machine that holds the prepared data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from ssdtune.device import full_precision
from ssdtune.objective.account import Account
from ssdtune.objective.estimate import Estimate, estimate_mean
from ssdtune.objective.evaluation import evaluate, mean
from ssdtune.objective.evaluator import Evaluator, Measured
from ssdtune.objective.order import stratified_order
from ssdtune.objective.outcome import Columns, Outcome, as_means
from ssdtune.objective.precision import Precision, choose_precision
from ssdtune.objective.score import ScoreRule
from ssdtune.objective.stopping import FIRST_LOOK, FORGET, RETAIN, STOPPED_SE, Incumbent, Reason, decide
from ssdtune.task import Task, batches
from ssdtune.unlearning.method import Setting, Stage, Unlearner, run


class Objective:
    """Measures settings of one task, on data prepared once.

    evaluator : of the task. rule : the study's score. baseline : means of the untouched model in float32. untouched :
    the same slice by slice in each set's own order, where known; else it is measured anew. stop_early : whether trials
    that are clearly not the best may end before their last slice. precision : see ``objective.precision``.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        rule: ScoreRule,
        baseline: Mapping[str, float | None],
        *,
        untouched: Columns | None = None,
        stop_early: bool = True,
        precision: Precision = "float32",
    ) -> None:
        self.evaluator, self.rule, self.stop_early = evaluator, rule, stop_early
        self._baseline, self._known, self._precision = baseline, untouched, precision
        self._shift: dict[str, float] | None = None

    @full_precision()
    def measure(self, unlearner: Unlearner, setting: Setting, incumbent: Incumbent, seed: int = 0) -> Outcome:
        """The outcome of one setting, judged against the incumbent; whatever unlearning or evaluating raises."""
        before = self.evaluator.account.copy()
        once = self._prepare()
        with self.evaluator.account.timed("unlearn"):
            *passed, last = unlearner(setting, seed)
        outcome = self._judged(unlearner, setting, last, incumbent, before)
        checkpoints = [
            (at, self._judged(unlearner, at, replace(stage, cost=0.0), incumbent, self.evaluator.account.copy()))
            for stage in passed
            if (at := stage.setting) is not None
        ]
        return replace(outcome, seconds={**outcome.seconds, **once}, checkpoints=checkpoints)

    def _judged(
        self, unlearner: Unlearner, setting: Setting, stage: Stage, incumbent: Incumbent, before: Account
    ) -> Outcome:
        """What the parameters of a setting come to, and what that and all since ``before`` took."""
        found = self.evaluator.start(stage.params)
        reason = self._until_decided(found, incumbent) if self.stop_early else None
        if reason is None and not found.broken:
            found.finish()
        else:
            for name in found.columns:
                found.extend(name, FIRST_LOOK)
        spent = self.evaluator.account.since(before)
        return replace(
            self._outcome(found, None if found.broken else reason, incumbent),
            notes=dict(unlearner.notes(setting)),
            slices=spent.slices,
            possible=self.evaluator.slices,
            cost=stage.cost + spent.slices,
            seconds=spent.seconds,
            precision=str(self.evaluator.dtype).removeprefix("torch."),
        )

    def _prepare(self) -> dict[str, float]:
        """Read all data and know the untouched model, once; returns what a slice takes the plain way."""
        if self._shift is not None:
            return {}
        choose_precision(self.evaluator, self._precision)
        short = self.evaluator.dtype != torch.float32
        if self._known is not None and not short:
            self.evaluator.recall(self._known)
        self._shift = {}
        if short:  # what the untouched model differs by is made good in every trial
            means = self.evaluator.untouched().measures().summary()
            known = {name: value for name, value in self._baseline.items() if value is not None}
            self._shift = {name: known[name] - value for name, value in means.items() if name in known}
        return {"plain_slice": plain_slice_seconds(self.evaluator.task)}

    def _controls(self, name: str, incumbent: Incumbent) -> np.ndarray:
        """(k, N) known qualities of a set in scoring order: the untouched model's, and the incumbent's where known."""
        known = [self.evaluator.untouched().quality(name)]
        column = incumbent.columns.get(name)
        return np.array(known if column is None or len(column) != len(known[0]) else [*known, column])

    def _moved(self, name: str, measure: str | None = None) -> float:
        measure = measure or next(iter(self.evaluator.untouched().columns[name]))
        return (self._shift or {}).get(f"{name}_{measure}", 0.0)

    def _until_decided(self, found: Measured, incumbent: Incumbent) -> Reason | None:
        """Measure until the trial is clearly not the best, and say why; None where both sets are complete."""
        controls = {name: self._controls(name, incumbent) for name in (RETAIN, FORGET)}
        return decide(found, controls, self.rule, incumbent.score, (self._moved(RETAIN), self._moved(FORGET)))

    def _outcome(self, found: Measured, stopped: Reason | None, incumbent: Incumbent) -> Outcome:
        means: dict[str, float] = {}
        estimates: dict[str, Estimate] = {}
        for name, columns in found.columns.items():
            seen = found.done[name]
            for number, (measure, column) in enumerate(columns.items()):
                key, moved = f"{name}_{measure}", self._moved(name, measure)
                if found.broken and seen < len(column):
                    means[key] = math.nan
                elif stopped is None:
                    means[key] = mean(column[:seen]) + moved
                else:
                    known = self.evaluator.untouched().columns[name][measure][None]
                    controls = known if number else self._controls(name, incumbent)
                    estimate = estimate_mean(column[:seen], controls, slice(0, seen))
                    estimates.setdefault(name, replace(estimate, se=estimate.se * STOPPED_SE))
                    means[key] = estimate.mean + moved
        if stopped is None and not found.broken:
            means |= {key: value + (self._shift or {}).get(key, 0.0) for key, value in found.measures().volumes.items()}
        outcome = Outcome(as_means(means), {name: found.quality(name) for name in found.columns}, broken=found.broken)
        if stopped is None:
            return outcome
        rule = self.rule
        scales = {RETAIN: ("retained", rule.q_retain), FORGET: ("remembered", rule.q_forget - rule.floor)}
        errors = {part: estimates[name].se / max(abs(scale), 1e-9) for name, (part, scale) in scales.items()}
        return replace(outcome, stopped=stopped, seen=sum(estimates[name].seen for name in scales), errors=errors)


@full_precision()
def measure_exactly(task: Task, unlearner: Unlearner, setting: Setting, seed: int = 0) -> Outcome:
    """Every slice of every set alone, by the model as it is, with nothing taken from an earlier trial."""
    started = time.perf_counter()
    stage = run(unlearner, setting, seed)
    unlearned = time.perf_counter()
    measures = evaluate(task, stage.params, batch_size=1)
    done = time.perf_counter()
    columns = {}
    for name, values in measures.values.items():
        columns[name] = next(iter(values.values()))[stratified_order(task.scored_sets[name], name)]
    slices = sum(map(len, columns.values()))
    return Outcome(
        as_means(measures.summary()),
        columns,
        broken=[name for name in measures.values if not math.isfinite(measures.quality(name))],
        notes=dict(unlearner.notes(setting)),
        slices=slices,
        possible=slices,
        cost=stage.cost + slices,
        seconds={"unlearn": unlearned - started, "evaluate": done - unlearned},
        exact=True,
    )


def plain_slice_seconds(task: Task, slices: int = 3) -> float:
    """Seconds a slice takes the plain way: read, reconstructed alone by the model as it is, measured."""
    samples = task.scored_sets[RETAIN]
    times = []
    with torch.no_grad():
        for index in range(min(slices, len(samples))):
            started = time.perf_counter()
            for batch in batches([samples[index]], 1, task.device):
                for value in task.measures(task.predict(None, batch.inputs), batch.target).values():
                    value.cpu()
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
