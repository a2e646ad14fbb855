"""Task arithmetic (Ilharco et al., ICLR 2023): what fine-tuning on the forget set adds to the model is taken away.

    theta = theta0 - s (theta_ft - theta0),   theta_ft = theta0 after steps of min J_f

Needs no retain samples. Published: s around 0.5, one value of it chosen on held-out data from 0 to 1 in steps of 0.05,
after a fine-tuning to the end, so the setting that is tried first has s = 0.5 and the published rate of ``ft``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any

from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Task
from ssdtune.unlearning.ft import FT, FTOptions, FTUnlearner
from ssdtune.unlearning.method import UNTOUCHED, Analyse, Knob, Params, Setting, Stage, Unlearner
from ssdtune.unlearning.plan import Plan, Term
from ssdtune.unlearning.training import Trainer

SCALE = "s"


class TaskArithmeticOptions(FTOptions):
    """Those of fine-tuning, and the range of the scale."""

    lr: Range = (0.01, 10.0)
    s: Range = (0.01, 10.0)


class TaskArithmetic(FT):
    """The method."""

    name, summary = "task-arithmetic", "Takes away what fine-tuning on forget samples adds: needs no retain samples"
    Options = TaskArithmeticOptions
    sets = ("forget",)

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(SCALE, options.s, about="how much of it is taken away")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{**setting, SCALE: 0.5} for setting in super().published(options)]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return TaskArithmeticUnlearner(Trainer(task, options, sets=self.sets))


class TaskArithmeticUnlearner(FTUnlearner):
    """Task arithmetic on one task; running statistics stay those of the untouched model."""

    def plan(self, setting: Setting, seed: int) -> Plan:
        terms = (Term("forget"),) if setting[SCALE] else ()
        return replace(super().plan(setting, seed), terms=terms)

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        for stage in super().__call__(setting, seed):
            yield replace(stage, params=along(self.trainer.task.params, stage.params, -setting[SCALE]))

    def effect(self, setting: Setting) -> Hashable:
        return super().effect(setting) if setting[SCALE] else UNTOUCHED


def along(start: Params, end: Params, t: float) -> dict[str, Any]:
    """start + t (end - start), for the names of ``start``."""
    return {name: value + t * (end[name] - value) for name, value in start.items()}
