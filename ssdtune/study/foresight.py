"""What a study will take, from a few slices timed: nothing is evaluated, and nothing is written."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ssdtune.device import full_precision
from ssdtune.fisher.memory import plan_memory
from ssdtune.objective.evaluator import Evaluator
from ssdtune.studyfile import FisherSection
from ssdtune.subset import part_of
from ssdtune.task import Task, batches

SLICES = 3
"""Slices that are timed."""

_GRADIENTS_ONCE = 1.3  # the analysis against its gradients alone: products of rows, damage tables (benchmarks.fisher)


@dataclass(frozen=True)
class Foresight:
    """What a study will take.

    slices : of all scored sets. slice_seconds, gradient_seconds : of one. analysis_gib : of memory for the Fisher
    analysis, rows on disk included; analysis_minutes : its time, 0 where the method needs none. trial_seconds : every
    slice reconstructed and measured once; early stopping takes less, methods that train take more. study_minutes : of
    all trials, and the analysis.
    """

    slices: int
    slice_seconds: float
    gradient_seconds: float
    analysis_gib: float
    analysis_minutes: float
    trial_seconds: float
    study_minutes: float

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """(what, value) in words."""
        return [
            ("slices a trial", f"{self.slices}"),
            ("a slice", f"{self.slice_seconds:.3g} s, its gradient {self.gradient_seconds:.3g} s"),
            ("analysis", f"about {self.analysis_minutes:.2g} min, {self.analysis_gib:.2g} GiB"),
            ("a trial", f"about {self.trial_seconds:.3g} s where it is not stopped early, and what the method trains"),
            ("the study", f"about {self.study_minutes:.3g} min"),
        ]


@full_precision()
def foresee(task: Task, fisher: FisherSection, trials: int, analysed: bool) -> Foresight:
    """Time ``SLICES`` slices of the retain set and one gradient.

    analysed : whether the method needs the Fisher analysis.

    Raises ConfigError: the memory budget is too small for the model.
    """
    few = replace(task, retain=part_of(task.retain, SLICES, "foresight"), evaluation={})
    slice_seconds, gradient_seconds = _slice_seconds(few), _gradient_seconds(few)
    sizes = tuple(min(len(samples), fisher.samples or len(samples)) for samples in (task.forget, task.retain))
    parameters = sum(value.numel() for value in task.params.values())
    slices = sum(len(samples) for samples in task.scored_sets.values())
    gib = minutes = 0.0
    if analysed:
        budget = fisher.memory_budget_gib * 2**30
        rows = tuple(min(size, 512) for size in sizes)
        plan_memory(parameters, rows, budget)
        gib = (min(56 * parameters + 4 * sum(rows) * parameters, budget)) / 2**30
        minutes = _GRADIENTS_ONCE * sum(sizes) * gradient_seconds / 60
    trial = slices * slice_seconds
    return Foresight(slices, slice_seconds, gradient_seconds, gib, minutes, trial, minutes + trials * trial / 60)


def _slice_seconds(task: Task) -> float:
    """Of one slice as trials evaluate it: median of three passes, after one that prepares."""
    evaluator = Evaluator(task)
    params = {name: value * 0.999 for name, value in task.params.items()}
    times = []
    for _ in range(4):
        started = time.perf_counter()
        evaluator.start(params).extend("retain", SLICES)
        times.append((time.perf_counter() - started) / min(SLICES, len(task.retain)))
    return sorted(times[1:])[1]


def _gradient_seconds(task: Task) -> float:
    """Of loss and gradient of one slice, the second time."""
    batch = next(iter(batches([task.retain[0]], 1, task.device)))
    seconds = 0.0
    for _ in range(2):
        params = {name: value.detach().requires_grad_(value.is_floating_point()) for name, value in task.params.items()}
        started = time.perf_counter()
        task.loss(task.predict(params, batch.inputs), batch.target).backward()
        if torch.device(task.device).type == "cuda":
            torch.cuda.synchronize(task.device)
        seconds = time.perf_counter() - started
    return seconds
