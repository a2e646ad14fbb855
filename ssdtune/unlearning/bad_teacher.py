"""Bad Teacher (Chundawat et al., AAAI 2023): outputs of the untouched model on retain samples, of a bad one on forget.

    min d(f(x_r), f_theta0(x_r)) + w_f d(f(x_f), T(x_f))

No targets are needed. d is the task's distance of outputs: the training loss with the teacher's image as target, KL for
classifiers. Both teachers answer once, before any trial. T is the zero-filled image, which is what is to be had without
a model; where there is none, or as published, the same network drawn anew (``random``); or that network after a short
training on retain samples (``blind-spot``; Tarun et al., ICML 2023). Published, as run by the authors of SSD on a
ResNet-18 of 11.2 million parameters: Adam 1e-4 (lr = 0.33), one epoch, w_f = 1.

Traps: a random VarNet keeps data consistency and gives what no oracle would. With poisoned targets the
untouched model is a poisoned teacher, and on retain samples it teaches what it does there. The published ``kl_div`` is
also divided by the number of classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch

from ssdtune.progress import Track
from ssdtune.studyfile import Positive, Range
from ssdtune.task import Distance, Task
from ssdtune.unlearning.aims import Kept, distance_of, towards
from ssdtune.unlearning.ft import FT, LR, STEPS, FTOptions, FTUnlearner
from ssdtune.unlearning.method import Analyse, Knob, Params, Setting, Unlearner
from ssdtune.unlearning.plan import Count, Plan, Term
from ssdtune.unlearning.training import Trainer

FORGET_WEIGHT = "w_f"

NO_DISTANCE = "a distance of two outputs (Task(distance=...))"


class BadTeacherOptions(FTOptions):
    """Those of fine-tuning and the range of the forget samples' weight.

    teacher : of the forget samples; ``auto`` is zero-filled where the task has such an image, else random. blind_steps,
    blind_rate : steps and Adam's rate of the training of a blind-spot teacher.
    """

    lr: Range = (0.05, 10.0)
    w_f: Range = (1e-2, 10.0)
    teacher: Literal["auto", "zero-filled", "random", "blind-spot"] = "auto"
    blind_steps: Count = 40
    blind_rate: Positive = 1e-3


class BadTeacher(FT):
    """The method."""

    name, summary = "bad-teacher", "A good teacher on retain, a bad one on forget samples: trains, needs no targets"
    Options = BadTeacherOptions
    sets = ("retain", "forget")

    def needs(self, task: Task, options: Any) -> str | None:
        if distance_of(task) is None:
            return NO_DISTANCE
        if options.teacher == "zero-filled" and task.without_model is None:
            return "an image without a model for teacher = 'zero-filled' (Task(without_model=...)), but has 'random'"
        return super().needs(task, options)

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(FORGET_WEIGHT, options.w_f, about="weight of the forget samples")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{LR: 0.33, STEPS: options.steps[1], FORGET_WEIGHT: 1.0}]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        trainer, distance = Trainer(task, options, sets=self.sets), distance_of(task)
        assert distance is not None  # refused by ``needs``
        return BadTeacherUnlearner(trainer, distance, *answers(trainer, options))


class BadTeacherUnlearner(FTUnlearner):
    """Both teachers' answers on one task."""

    def __init__(self, trainer: Trainer, distance: Distance, bad: Kept, passes: float) -> None:
        super().__init__(trainer)
        self.preparation = trainer.slices("retain") + passes
        good = trainer.outputs("retain", trainer.task.model)
        self.good, self.bad = (towards(kept, trainer.output, distance) for kept in (good, bad))

    def plan(self, setting: Setting, seed: int) -> Plan:
        terms = Term("retain", aim=self.good), Term("forget", setting[FORGET_WEIGHT], self.bad)
        # without a bad teacher there is nothing to learn but rounding, which Adam would scale up
        return replace(super().plan(setting, seed), terms=terms if setting[FORGET_WEIGHT] else ())


def answers(trainer: Trainer, options: BadTeacherOptions) -> tuple[Kept, float]:
    """(the bad teacher's output for every forget slice, slice passes that it took)"""
    without, kind = trainer.task.without_model, options.teacher
    if without is not None and kind in ("auto", "zero-filled"):
        return Kept((batch, without(batch.inputs)) for batch in trainer.in_order("forget", raw=True)), 0.0
    start, cost = drawn_anew(trainer.task, options.seed), 0.0
    if kind == "blind-spot":
        trained = trainer.train(Plan(options.blind_steps, options.blind_rate), options.seed, start)
        start, cost = trained.params, trained.cost
    return trainer.outputs("forget", trainer.module(start)), cost + trainer.slices("forget")


def drawn_anew(task: Task, seed: int) -> Params:
    """Parameters and statistics of the task's network as its layers initialise themselves."""
    twin = task.twin()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in twin.cpu().modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return task.state(twin.to(task.device))
