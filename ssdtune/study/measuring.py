"""The two ways to measure a setting: plainly and in full, or with everything that saves work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator, Measured
from ssdtune.objective.precision import Precision, choose_precision
from ssdtune.objective.prepared import Params
from ssdtune.objective.score import Score
from ssdtune.objective.stopping import FIRST_LOOK, FORGET, RETAIN
from ssdtune.objective.together import FEWEST, measure_together, room_for
from ssdtune.objective.trial import Scored, TrialScorer
from ssdtune.samplers.recorded import NON_FINITE, PRECISION, STOPPED
from ssdtune.samplers.space import Analysis, Setting
from ssdtune.samplers.spectrum import STANDARD_ERROR
from ssdtune.study.facts import Columns, StudyFacts, as_recorded
from ssdtune.task import Task, batches, move

Coming = Callable[[int], Sequence[Setting]]
"""Names so many settings at most that the next trials will ask for, as far as that is known already."""


def none_known(most: int) -> Sequence[Setting]:
    """Where no trial is known beforehand."""
    return ()


@dataclass(frozen=True)
class Measurement:
    """What measuring one setting gave, as it is recorded: measures, slices and seconds by name, JSON values."""

    values: Mapping[str, Any]


class Plain:
    """Every slice of every set, with nothing taken from an earlier trial.

    Each slice alone, so that what it gives does not depend on its neighbours.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, analysis: Analysis, setting: Setting) -> Measurement:
        started = time.perf_counter()
        params = _dampened(analysis, setting, self.task)
        dampened = time.perf_counter()
        measures = evaluate(self.task, params, batch_size=1)
        done = time.perf_counter()
        broken = [name for name in measures.values if not math.isfinite(measures.quality(name))]
        slices = sum(len(next(iter(columns.values()))) for columns in measures.values.values())
        return Measurement(
            {
                **as_recorded(measures.summary()),
                **({NON_FINITE: broken} if broken else {}),
                "slices": slices,
                "slices_possible": slices,
                "seconds_dampen": dampened - started,
                "seconds_evaluate": done - dampened,
            }
        )


class Fast:
    """As few slices as a trial's outcome needs, on data prepared once.

    evaluator : of the study's task. stop_early : whether trials may end before their last slice. untouched : what the
    study's baseline was slice by slice, where it is known; else the untouched model is measured anew.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        facts: StudyFacts,
        *,
        stop_early: bool = True,
        precision: Precision = "auto",
        untouched: Columns | None = None,
    ) -> None:
        self.evaluator, self.facts, self.precision = evaluator, facts, precision
        self._untouched = untouched
        self.scorer = TrialScorer(evaluator, facts.rule, stop_early=stop_early)
        self._started = False
        self._measured: tuple[Setting, Scored] | None = None
        self._begun: dict[Setting, Measured] = {}
        self._ahead = True  # whether trials are begun in advance

    def __call__(self, analysis: Analysis, setting: Setting, coming: Coming = none_known) -> Measurement:
        """Measure a setting; those that the next trials ask for may be begun with it."""
        before = self.evaluator.account.copy()
        once = {} if self._started else self._prepare()
        if setting not in self._begun:
            self._begin(analysis, setting, coming)
        begun = self._begun.pop(setting, None)
        if begun is None:
            scored = self.scorer(self._dampen(analysis, setting))
        else:
            self.evaluator.account.slices += sum(begun.done.values())
            scored = self.scorer(begun)
        self._measured = setting, scored
        spent = self.evaluator.account.since(before)
        seconds = {f"seconds_{phase}": value for phase, value in spent.seconds.items()}
        counts = {"slices": spent.slices, "slices_possible": self.evaluator.slices}
        return Measurement({**self._values(scored), **counts, **seconds, **once})

    def keep(self, setting: Setting, score: Score) -> None:
        """A trial is complete: it may be the best to beat from now on."""
        if self._measured is not None and self._measured[0] == setting:
            self.scorer.keep(self._measured[1], score, setting)

    def stand_against(self, analysis: Analysis, setting: Setting, score: Score) -> None:
        """The study's best trial so far, whoever ran it."""
        self.scorer.stand_against(score, setting, lambda: _dampened(analysis, setting, self.evaluator.task))

    def _begin(self, analysis: Analysis, setting: Setting, coming: Coming) -> None:
        """Take the first looks of this trial and of those coming at once, where that pays.

        Their slices are counted in the trials that they are for, their seconds in this one. No more are begun in
        advance once other trials have come, or some could not be measured at once.
        """
        self._ahead = self._ahead and not self._begun
        self._begun = {}
        most = room_for(self.evaluator, (RETAIN, FORGET), FIRST_LOOK) if self._ahead else 0
        settings = [setting, *coming(most - 1)] if most else []
        if len(settings) < FEWEST:
            return
        slices = self.evaluator.account.slices
        try:
            params = [self._dampen(analysis, one) for one in settings]
            found = measure_together(self.evaluator, params, (RETAIN, FORGET), FIRST_LOOK)
        except Exception:  # one cannot be dampened, which is said in the trial that it belongs to
            found = []
        self.evaluator.account.slices = slices
        self._ahead = bool(found)
        self._begun = dict(zip(settings, found, strict=False))

    def _dampen(self, analysis: Analysis, setting: Setting) -> Params:
        """Dampened parameters, their time in the account."""
        with self.evaluator.account.timed("dampen"):
            return _dampened(analysis, setting, self.evaluator.task)

    def _prepare(self) -> dict[str, Any]:
        """Read all data and know the untouched model; returns what a slice takes the plain way, for the account."""
        choose_precision(self.evaluator, self.precision)
        if self._untouched is not None and self.evaluator.dtype == torch.float32:
            self.evaluator.recall(self._untouched)
        if self.scorer.stop_early or self.evaluator.dtype != torch.float32:
            self.scorer.refer_to(self.facts.baseline)
        self._started = True
        return {"plain_slice_seconds": plain_slice_seconds(self.evaluator.task)}

    def _values(self, scored: Scored) -> dict[str, Any]:
        values: dict[str, Any] = dict(as_recorded(dict(scored.means)))
        if self.evaluator.dtype != torch.float32:
            values[PRECISION] = str(self.evaluator.dtype).removeprefix("torch.")
        if scored.broken:
            values[NON_FINITE] = scored.broken
        if scored.stopped is not None:
            rule = self.facts.rule
            scales = {RETAIN: ("retained", rule.q_retain), FORGET: ("remembered", rule.q_forget - rule.floor)}
            for name, (part, scale) in scales.items():
                values[part + STANDARD_ERROR] = scored.estimates[name].se / max(abs(scale), 1e-9)
            values |= {STOPPED: scored.stopped, "step": sum(scored.estimates[name].seen for name in scales)}
        return values


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


def _dampened(analysis: Analysis, setting: Setting, task: Task) -> Params:
    moved: Params = move(analysis.dampen(setting.alpha, setting.lam, setting.exponent), task.device)
    return moved
