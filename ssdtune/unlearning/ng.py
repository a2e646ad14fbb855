"""NG+ (negative gradient plus): descent on retain samples, weighted ascent on forget samples, one batch of each a step.

min J_r - mu J_f; bounded: min J_r - mu min(J_f, cap) with cap the oracle's loss on the forget samples, which stops at
"as if never seen". Published: mu = 0.053 (deepunlearn's 0.95 J_r - 0.05 J_f), mu = 1 (Xue et al., 2024).
"""

from __future__ import annotations

import math
from dataclasses import replace

from ssdtune.errors import ConfigError
from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Task
from ssdtune.unlearning.ft import FT, LR, STEPS, FTOptions, FTUnlearner
from ssdtune.unlearning.method import Analyse, Knob, Setting, Unlearner
from ssdtune.unlearning.plan import Plan, Term
from ssdtune.unlearning.training import Trainer

MU = "mu"


class NGOptions(FTOptions):
    """Those of fine-tuning (ascent takes shorter steps), and the range of the forget weight.

    bounded : whether the ascent ends at the oracle's loss.
    """

    lr: Range = (0.01, 10.0)
    mu: Range = (1e-3, 3.0)
    bounded: bool = False


class NG(FT):
    """The method."""

    name, summary = "ng", "NG+: descent on retain, ascent on forget samples: trains, the dearest"
    Options = NGOptions
    sets = ("retain", "forget")

    def needs(self, task: Task, options: NGOptions) -> str | None:
        if options.bounded and task.oracle is None:
            return "an oracle, whose loss bounds the ascent"
        return super().needs(task, options)

    def knobs(self, options: NGOptions) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(MU, options.mu)

    def published(self, options: NGOptions) -> list[dict[str, float]]:
        return [{LR: 5.5, STEPS: options.steps[1], MU: mu} for mu in (0.053, 1.0)]

    def prepare(self, task: Task, options: NGOptions, *, analyse: Analyse, track: Track) -> Unlearner:
        """With the oracle's loss as bound where one is asked for; raises ConfigError where there is no oracle."""
        if options.bounded and task.oracle is None:
            raise ConfigError("no oracle, whose loss bounds the ascent", "method.bounded", "name one, or leave it out")
        trainer = Trainer(task, options, sets=self.sets)
        bound = trainer.mean_loss("forget", task.oracle) if options.bounded and task.oracle else (math.inf, 0)
        return NGUnlearner(trainer, *bound).foreseen_by(self, analyse)


class NGUnlearner(FTUnlearner):
    """NG+ on one task."""

    def __init__(self, trainer: Trainer, cap: float, looked: int) -> None:
        super().__init__(trainer)
        self.cap, self.preparation = cap, float(looked)

    def plan(self, setting: Setting, seed: int) -> Plan:
        ascent = Term("forget", -setting[MU], cap=self.cap)
        return replace(super().plan(setting, seed), terms=(Term("retain"), ascent))
