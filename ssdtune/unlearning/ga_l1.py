"""Gradient ascent with an l1 norm (Xue et al., 2024), alone (``ga-l1``) or beside fine-tuning (``ga-l1-ft``).

    ga-l1       min -J_f + gamma |theta|_1
    ga-l1-ft    min J_r - mu J_f + gamma |theta|_1

The published code (of a VarNet of 29.9 million parameters: Adam 1e-3, lr = 5.5 here; mu = 1; 5 epochs) adds the plain
norm to the loss. Its gradient is +-1 in every coordinate and the loss's is far smaller, so Adam moves every weight by
the whole rate towards 0 at each step, whatever is forgotten: 0.5 in an epoch, more than most weights have. Here the
norm is a soft threshold of gamma times the rate after Adam's step. gamma has no unit: it is the share of the largest
step that Adam can take. gamma = 1 is the published code; what it costs at the start, gamma |theta0|_1, is recorded.

Trap: retain samples are not looked at by ``ga-l1``. The published collapse (PSNR 0 after an epoch) is not the norm's
alone: at that rate a few dozen steps of the ascent destroy the model at any gamma (``benchmarks.papers``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Task
from ssdtune.unlearning.ft import FT, LR, STEPS, FTOptions, FTUnlearner, Steps
from ssdtune.unlearning.method import Analyse, Knob, Setting, Unlearner
from ssdtune.unlearning.plan import Plan, Shrink, Term
from ssdtune.unlearning.training import Trainer

MU, GAMMA = "mu", "gamma"


class GAL1Options(FTOptions):
    """Those of fine-tuning, with shorter steps and fewer, and the range of the norm's weight."""

    lr: Range = (1e-3, 10.0)
    steps: Steps = (1, 20)
    gamma: Range = (1e-6, 1.0)


class GAL1(FT):
    """Ascent and norm alone."""

    name, summary = "ga-l1", "Gradient ascent on forget samples with an l1 norm: trains, needs no retain samples"
    Options = GAL1Options
    sets: tuple[str, ...] = ("forget",)
    others: tuple[Term, ...] = ()

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(GAMMA, options.gamma, about="l1 shrinkage over Adam's rate")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{LR: 5.5, STEPS: options.steps[1], GAMMA: 1.0}]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return GAL1Unlearner(Trainer(task, options, sets=self.sets), self.others)


class GAL1FTOptions(GAL1Options):
    """Those of ``ga-l1`` and the range of the forget samples' weight."""

    lr: Range = (0.01, 10.0)
    steps: Steps = (4, 20)
    mu: Range = (1e-3, 3.0)


class GAL1FT(GAL1):
    """Beside fine-tuning, one batch of each set a step."""

    name, summary = "ga-l1-ft", "Gradient ascent with an l1 norm beside fine-tuning on retain samples"
    Options = GAL1FTOptions
    sets = ("retain", "forget")
    others = (Term("retain"),)

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(MU, options.mu, about="weight of the forget samples")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{**setting, MU: 1.0} for setting in super().published(options)]


class GAL1Unlearner(FTUnlearner):
    """Ascent with a norm on one task; ``others`` : terms beside the ascent."""

    def __init__(self, trainer: Trainer, others: tuple[Term, ...]) -> None:
        super().__init__(trainer)
        self.others = others
        self.norm = float(trainer.flatten(trainer.task.params).abs().sum())

    def plan(self, setting: Setting, seed: int) -> Plan:
        terms = *self.others, Term("forget", -setting.get(MU, 1.0))
        return replace(super().plan(setting, seed), terms=terms, penalty=Shrink(setting[GAMMA]))

    def notes(self, setting: Setting) -> dict[str, float]:
        return {**super().notes(setting), "penalty": setting[GAMMA] * self.norm}
