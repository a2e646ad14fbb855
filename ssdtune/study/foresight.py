"""What a study will take, from a few slices timed: nothing is evaluated, and nothing is written."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ssdtune.device import full_precision
from ssdtune.fisher.analysis import analyse
from ssdtune.fisher.memory import plan_memory
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import silent
from ssdtune.study.compare import middle
from ssdtune.studyfile import FisherSection
from ssdtune.subset import part_of
from ssdtune.task import Samples, Task, as_sample, batches
from ssdtune.unlearning.method import BACKWARD, Chooser, Setting, run
from ssdtune.unlearning.methods import Chosen
from ssdtune.unlearning.plan import Term, TrainingOptions
from ssdtune.unlearning.training import Trainer

SLICES = 3
"""Slices that are timed."""

_GRADIENTS_ONCE = 1.3  # the analysis against its gradients alone: products of rows, damage tables (benchmarks.fisher)
_SEARCH = 0.02  # seconds a trial of Optuna and SQLite (benchmarks.trial_cost)


@dataclass(frozen=True)
class Foresight:
    """What a study will take.

    slices : of all scored sets. slice_seconds, gradient_seconds : of one retain slice. analysis_gib : of memory for the
    Fisher analysis, rows on disk included; analysis_minutes : its time, 0 where the method needs none. method_passes,
    method_seconds : a trial's own, in the middle of its ranges. trial_seconds : these, every slice reconstructed and
    measured once, and the search. study_minutes : of all trials so, and the analysis; early stopping takes less, and
    reading the data is in neither.
    """

    slices: int
    slice_seconds: float
    gradient_seconds: float
    analysis_gib: float
    analysis_minutes: float
    method_passes: float
    method_seconds: float
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
            (
                "the method's part of a trial",
                f"about {self.method_seconds:.3g} s, {self.method_passes:.0f} slice passes",
            ),
            ("a trial", f"about {self.trial_seconds:.3g} s where it is not stopped early"),
            ("the study", f"about {self.study_minutes:.3g} min if no trial is stopped early"),
        ]


@full_precision()
def foresee(task: Task, fisher: FisherSection, trials: int, analysed: bool, passes: float = 0.0) -> Foresight:
    """Time ``SLICES`` slices of the retain set and one gradient; slices of other sets by their numbers of values.

    analysed : whether the method needs the Fisher analysis. passes : ``method_passes`` of the method.

    Raises ConfigError: the memory budget is too small for the model.
    """
    few = replace(task, retain=part_of(task.retain, SLICES, "foresight"), evaluation={})
    slice_seconds, gradient_seconds = _slice_seconds(few), _gradient_seconds(few)
    method = passes * _training_seconds(few) / BACKWARD if passes else 0.0
    sizes = tuple(min(len(samples), fisher.samples or len(samples)) for samples in (task.forget, task.retain))
    parameters = sum(value.numel() for value in task.params.values())
    gib = minutes = 0.0
    if analysed:
        budget = fisher.memory_budget_gib * 2**30
        rows = tuple(min(size, 512) for size in sizes)
        plan_memory(parameters, rows, budget)
        gib = (min(56 * parameters + 4 * sum(rows) * parameters, budget)) / 2**30
        gradients = sizes[0] * _values(task.forget) / _values(task.retain) + sizes[1]
        minutes = _GRADIENTS_ONCE * gradients * gradient_seconds / 60
    shares = {name: len(samples) * _values(samples) for name, samples in task.scored_sets.items()}
    trial = sum(shares.values()) / _values(task.retain) * slice_seconds + method + _SEARCH
    return Foresight(
        slices=sum(map(len, task.scored_sets.values())),
        slice_seconds=slice_seconds,
        gradient_seconds=gradient_seconds,
        analysis_gib=gib,
        analysis_minutes=minutes,
        method_passes=passes,
        method_seconds=method,
        trial_seconds=trial,
        study_minutes=minutes + trials * trial / 60,
    )


def method_passes(chosen: Chosen, task: Task) -> float:
    """Slice passes of a trial beside its evaluation, counted on a task small enough to run one.

    The trial is in the middle of all ranges; of a method that chooses among others, its first one.
    """
    method, given = chosen.method, dict[str, float]()
    knobs = method.knobs(chosen.options)
    if isinstance(method, Chooser) and (choice := method.choose(chosen.options, (), 1)) is not None:
        knobs, given = choice.knobs, dict(choice.given)
    setting: Setting = {**middle(knobs), **given}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few samples
        unlearner = method.prepare(task, chosen.options, analyse=lambda: analyse(task), track=silent)
        return run(unlearner, setting, 0).cost


def _values(samples: Samples) -> int:
    """How many numbers the inputs of a set's first sample hold."""
    inputs, _ = as_sample(samples[0])
    return sum(value.numel() for value in inputs if isinstance(value, Tensor)) or 1


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


def _training_seconds(task: Task) -> float:
    """Of loss and gradient of one slice of a batch, as methods that train take them, the second time."""
    trainer, twin = Trainer(task, TrainingOptions(), sets=("retain",)), task.twin()
    batch = next(trainer.stream("retain", 0))
    started = time.perf_counter()
    trainer.gradient(twin, [(Term("retain", 1.0), batch)])
    if torch.device(task.device).type == "cuda":
        torch.cuda.synchronize(task.device)
    return (time.perf_counter() - started) / batch.slices


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
