"""Boundary unlearning by perturbed sign gradients (Nahass et al., arXiv 2505.21872), carried over to images.

The boundary is the nearest behaviour of the untouched model that no longer fits the forget target. K steps

    delta <- clip(delta + (eps rms(x) / K) sign(grad_delta J(theta0; x + delta, y) / rms(grad) + gamma z))

from delta = 0, z normal, |delta| <= eps rms(x) for each entry, on acquired k-space alone for a VarNet; then

    min d(f(x_f), f_theta0(x_f + delta)) + beta J_r.

The pseudo labels do not depend on theta: they are made once a trial, and billed, 3K + 1 passes a forget slice. gamma
against the gradient's rms decides at which entries the sign is random; eps -> 0 is self-distillation, which forgets
nothing. For classifiers the pseudo label is soft, d the KL divergence. Published for them: eps 0.1 on inputs in [0, 1],
gamma 1e-4, beta 0 or 1e-4, SGD at 1e-5; a rate of SGD has no counterpart in Adam's, so nothing is enqueued.

Traps: made for forgetting classes. The published term lambda (x' - x) is a constant bias there, and is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ssdtune.device import full_precision
from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Distance, Task, as_sample
from ssdtune.unlearning.aims import Kept, distance_of, towards
from ssdtune.unlearning.bad_teacher import NO_DISTANCE
from ssdtune.unlearning.ft import FT, STEPS, FTOptions, FTUnlearner
from ssdtune.unlearning.inputs import acquired, rms
from ssdtune.unlearning.method import BACKWARD, Analyse, Knob, Setting, Unlearner
from ssdtune.unlearning.plan import Count, Plan, Term
from ssdtune.unlearning.sets import Batch, generator_of
from ssdtune.unlearning.training import Trainer

EPS, BETA = "eps", "beta"


class PerturbedOptions(FTOptions):
    """Those of fine-tuning, and the range of the perturbation's size.

    gamma : size of the noise in the sign. inner_steps : K.
    """

    lr: Range = (0.01, 10.0)
    eps: Range = (1e-2, 1.0)
    gamma: Annotated[float, Field(ge=0)] = 0.1
    inner_steps: Count = 1


class PSGOptions(PerturbedOptions):
    """Those of the perturbation, and the range of the retain loss's weight."""

    beta: Range = (1e-2, 100.0)


class PSG(FT):
    """The method."""

    name, summary = "psg", "Forget samples towards the untouched model's output for adversarially perturbed inputs"
    Options: type[PerturbedOptions] = PSGOptions
    sets: tuple[str, ...] = ("retain", "forget")

    def needs(self, task: Task, options: Any) -> str | None:
        if distance_of(task) is None:
            return NO_DISTANCE
        first = as_sample(task.forget[0])[0][0]
        if not (isinstance(first, Tensor) and first.is_floating_point()):
            return "inputs that can be perturbed (floating-point numbers)"
        return super().needs(task, options)

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        size = Knob.over(EPS, options.eps, about="perturbation over the input's rms")
        return *super().knobs(options), size, Knob.over(BETA, options.beta, about="weight of the retain loss")

    def published(self, options: Any) -> list[dict[str, float]]:
        return []

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        distance = distance_of(task)
        assert distance is not None  # refused by ``needs``
        return PSGUnlearner(Trainer(task, options, sets=self.sets), distance, options)


class PSGUnlearner(FTUnlearner):
    """The method on one task. ``raw`` : the forget slices with inputs as the task gives them."""

    def __init__(self, trainer: Trainer, distance: Distance, options: PerturbedOptions) -> None:
        super().__init__(trainer)
        self.distance, self.options = distance, options
        self.raw = list(trainer.in_order("forget", raw=True))

    def plan(self, setting: Setting, seed: int) -> Plan:
        generator = generator_of(["psg", str(seed)])
        pseudo = Kept((batch, self.pseudo_label(batch, setting[EPS], generator)) for batch in self.raw)
        away = Term("forget", aim=towards(pseudo, self.trainer.output, self.distance))
        return replace(super().plan(setting, seed), terms=(Term("retain", setting.get(BETA, 0.0)), away))

    def __call__(self, setting: Setting, seed: int) -> Any:
        inner = (BACKWARD * self.options.inner_steps + 1) * self.trainer.slices("forget")
        for stage in super().__call__(setting, seed):
            yield replace(stage, cost=stage.cost + inner if setting[STEPS] else 0.0)

    @full_precision()
    def pseudo_label(self, batch: Batch, eps: float, generator: torch.Generator) -> Any:
        """The untouched model's output for the perturbed inputs of a batch."""
        options, (x, *rest) = self.options, batch.inputs
        where = acquired(batch.inputs)
        most = eps * rms(x, where)
        delta = torch.zeros_like(x)
        for _ in range(options.inner_steps):
            moved = (x + delta).requires_grad_()
            loss = self.trainer.task.loss(self.trainer.respond((moved, *rest)), batch.target)
            (slope,) = torch.autograd.grad(loss, moved)
            slope = slope / rms(slope, where).clamp_min(torch.finfo(x.dtype).tiny)
            z = torch.randn(x.shape, generator=generator).to(x)
            delta = delta + where * most / options.inner_steps * (slope + options.gamma * z).sign()
            delta = torch.maximum(torch.minimum(delta, most), -most)
        with torch.no_grad():
            return self.trainer.respond((x + delta, *rest))
