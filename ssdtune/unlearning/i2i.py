"""Unlearning of image-to-image networks in their encoder (Li et al., ICLR 2024): forget samples look like noise.

    min |E(x_r) - E0(x_r)|² + a_f |E(x_f) - E0(n)|²

E are activations, E0 the untouched model's, n Gaussian noise like the input; each square is relative to that of E0's
activation, so that layers of all sizes count alike. No targets are needed, the rest of the network stays as it is. A
U-Net's encoder is its way down with the bottleneck, whose output E is; a VarNet has one in each cascade, and its
sensitivity network stays. Of other networks E is the input of the last linear layer, all before it is trained.
Published: a_f = 0.2, rate 1e-4 on a ViT-B of 86 million parameters (lr = 0.93).

Traps: an oracle does *not* output noise on forget samples, so the method forgets too much
(arXiv 2502.04260). A step costs whole forward passes of the stock network, though the encoder alone is trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ssdtune.device import full_precision
from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Task
from ssdtune.unlearning.aims import Kept
from ssdtune.unlearning.encoder import encoder, watching
from ssdtune.unlearning.ft import FT, LR, STEPS, FTOptions, FTUnlearner
from ssdtune.unlearning.inputs import noise_like
from ssdtune.unlearning.method import Analyse, Knob, Setting, Unlearner
from ssdtune.unlearning.plan import Plan, Term
from ssdtune.unlearning.sets import Batch, generator_of
from ssdtune.unlearning.training import Trainer

FORGET_WEIGHT = "a_f"


class I2IOptions(FTOptions):
    """Those of fine-tuning and the range of the forget samples' weight."""

    lr: Range = (0.005, 5.0)
    a_f: Range = (1e-3, 10.0)


class I2I(FT):
    """The method."""

    name, summary = "i2i", "Encodes forget samples as noise, retain samples as before; needs no targets"
    Options = I2IOptions
    sets = ("retain", "forget")

    def needs(self, task: Task, options: Any) -> str | None:
        return (
            super().needs(task, options) if encoder(task.model)[1] else "an encoder (a U-Net, or a last linear layer)"
        )

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(FORGET_WEIGHT, options.a_f, about="weight of the forget samples")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{LR: 0.93, STEPS: options.steps[1], FORGET_WEIGHT: 0.2}]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return I2IUnlearner(Trainer(task, options, sets=self.sets, quick=False), options.seed)


class I2IUnlearner(FTUnlearner):
    """The method on one task. ``mask`` : (P,) bool, the encoder's parameters."""

    def __init__(self, trainer: Trainer, seed: int) -> None:
        super().__init__(trainer)
        task = trainer.task
        self.preparation = float(trainer.slices("retain") + trainer.slices("forget"))
        self.watched, own = encoder(task.model)
        self.mask = torch.cat([torch.full((v.numel(),), n in own) for n, v in task.params.items()]).to(task.device)
        generator = generator_of(["i2i", str(seed)])
        self.retain = Kept((b, self.activations(task.model, b.inputs)) for b in trainer.in_order("retain"))
        noise = ((b, noise_like(b.inputs, generator)) for b in trainer.in_order("forget"))
        self.noise = Kept((batch, self.activations(task.model, inputs)) for batch, inputs in noise)

    def plan(self, setting: Setting, seed: int) -> Plan:
        terms = (
            Term("retain", aim=self.like(self.retain)),
            Term("forget", setting[FORGET_WEIGHT], self.like(self.noise)),
        )
        # without noise to learn there is nothing but rounding, which Adam would scale up
        return replace(super().plan(setting, seed), terms=terms if setting[FORGET_WEIGHT] else (), mask=self.mask)

    def like(self, kept: Kept) -> Any:
        """The aim at activations that are kept."""

        def aim(model: nn.Module, batch: Batch) -> Tensor:
            pairs = zip(self.activations(model, batch.inputs), kept(batch), strict=True)
            tiny = torch.finfo(torch.float32).tiny
            return torch.stack([(e - e0).square().mean() / e0.square().mean().clamp_min(tiny) for e, e0 in pairs]).sum()

        return aim

    @full_precision()
    def activations(self, model: nn.Module, inputs: Any) -> list[Tensor]:
        with watching(model, self.watched) as seen:
            model(*inputs)
        return seen
