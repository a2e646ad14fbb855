"""Noisy labels (Graves et al., AAAI 2021; for MRI Xue et al., 2024), alone (``nl``) or beside fine-tuning (``nl-ft``).

    nl       min J(f(x_f), y_f + sigma m |n|)
    nl-ft    min J_r + w_f J(f(x_f), y_f + sigma m |n|)

m is the volume's maximum (for other float targets the sample's largest value), n standard normal noise, drawn anew at
each step. Labels of a classifier: each is another class with probability sigma, at most 1. Published for MRI: Adam 1e-3
(lr = 5.5 for 29.9 million parameters), w_f = 1, noise 1e-5 in raw units, which is 0.01 to 0.1 of the maximum.

Traps: the published code draws |n|, not n. Zero-mean noise that is fresh at each step leaves the minimiser of an L1 or
L2 loss where it was, and acts through SSIM's bend alone; the half-normal's mean, 0.8 sigma m, is what is learned.
Without retain samples nothing ties the rest: at the published rate ``nl`` collapses, and so does sigma = 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Noise, Task
from ssdtune.unlearning.aims import NoiseKind, noise_of, with_noise
from ssdtune.unlearning.ft import FT, LR, STEPS, FTOptions, FTUnlearner
from ssdtune.unlearning.method import Analyse, Knob, Setting, Unlearner
from ssdtune.unlearning.plan import Plan, Term
from ssdtune.unlearning.training import Trainer

SIGMA, FORGET_WEIGHT = "sigma", "w_f"


class NLOptions(FTOptions):
    """Those of fine-tuning and the range of the noise's relative size.

    noise : its distribution. fresh : whether it is drawn anew at each step, or once for each slice.
    """

    lr: Range = (0.01, 10.0)
    sigma: Range = (1e-3, 3.0)
    noise: NoiseKind = "half-normal"
    fresh: bool = True


class NL(FT):
    """Noisy targets alone."""

    name, summary = "nl", "Training on forget samples with noisy targets: needs no retain samples"
    Options = NLOptions
    sets: tuple[str, ...] = ("forget",)

    def needs(self, task: Task, options: Any) -> str | None:
        if noise_of(task) is None:
            return "a way to add noise to its targets (Task(noise=...))"
        return super().needs(task, options)

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(SIGMA, options.sigma, about="noise over the volume's maximum")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{LR: 5.5, STEPS: options.steps[1], SIGMA: 0.03}]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return NLUnlearner(Trainer(task, options, sets=self.sets), options)


class NLFTOptions(NLOptions):
    """Those of ``nl`` and the range of the forget samples' weight."""

    lr: Range = (0.05, 10.0)
    w_f: Range = (1e-2, 10.0)


class NLFT(NL):
    """Noisy targets beside fine-tuning, one batch of each set a step."""

    name, summary = "nl-ft", "Noisy targets on forget samples beside fine-tuning on retain samples"
    Options = NLFTOptions
    sets = ("retain", "forget")

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(FORGET_WEIGHT, options.w_f, about="weight of the forget samples")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{**setting, FORGET_WEIGHT: 1.0} for setting in super().published(options)]


class NLUnlearner(FTUnlearner):
    """Noisy targets on one task."""

    def __init__(self, trainer: Trainer, options: NLOptions) -> None:
        super().__init__(trainer)
        noise = noise_of(trainer.task)
        assert noise is not None  # refused by ``needs``
        self.noise: Noise = noise
        self.options, self.beside = options, isinstance(options, NLFTOptions)

    def plan(self, setting: Setting, seed: int) -> Plan:
        options, trainer = self.options, self.trainer
        key = [str(seed), str(options.seed)]
        aim = with_noise(
            trainer.task.loss, trainer.output, self.noise, setting[SIGMA], key, options.noise, options.fresh
        )
        noisy = Term("forget", setting.get(FORGET_WEIGHT, 1.0), aim)
        terms = (Term("retain"), noisy) if self.beside else (noisy,)
        return replace(super().plan(setting, seed), terms=terms)
