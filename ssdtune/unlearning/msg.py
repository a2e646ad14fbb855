"""MSG, masked small gradients (a finalist of the NeurIPS 2023 unlearning challenge; as in deepunlearn, Cadet et al.,
2024).

g = grad J_r - grad J_f at the untouched model. In every convolution the share ``init_rate`` of weights with the
smallest |g| is drawn anew (Kaiming); then fine-tuning on retain samples, where all other parameters take a tenth of
each step. Published: init_rate 0.3; SGD, whose rate has no counterpart in Adam's, so nothing is enqueued.

Trap: the published code scales the *gradient* of the kept weights by 0.1, which would mean nothing to Adam; here the
step is scaled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from ssdtune.progress import Track
from ssdtune.studyfile import rising
from ssdtune.task import Task
from ssdtune.unlearning.ft import FT, FTOptions, FTUnlearner, Steps
from ssdtune.unlearning.method import BACKWARD, Analyse, Knob, Params, Setting, Unlearner
from ssdtune.unlearning.plan import Plan, Term
from ssdtune.unlearning.sets import generator_of
from ssdtune.unlearning.training import Trainer

INIT_RATE = "init_rate"
KEPT = 0.1  # share of a step that parameters take which were not drawn anew

Rates = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=1)]], AfterValidator(rising)]


class MSGOptions(FTOptions):
    """Those of fine-tuning, with more steps, and the range of the share that is drawn anew."""

    steps: Steps = (8, 60)
    init_rate: Rates = (0.01, 1.0)


class MSG(FT):
    """The method."""

    name, summary = "msg", "Draws weights of small gradient difference anew, then fine-tunes on retain samples"
    Options = MSGOptions
    sets = ("retain", "forget")

    def needs(self, task: Task, options: Any) -> str | None:
        return super().needs(task, options) if convolutions(task) else "a convolution"

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *super().knobs(options), Knob.over(INIT_RATE, options.init_rate, about="share of weights drawn anew")

    def published(self, options: Any) -> list[dict[str, float]]:
        return []

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return MSGUnlearner(Trainer(task, options, sets=self.sets))


class MSGUnlearner(FTUnlearner):
    """MSG on one task. ``size`` : |g| by the name of the weight."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self.preparation = BACKWARD * float(trainer.slices("retain") + trainer.slices("forget"))
        apart = trainer.mean_gradient("retain") - trainer.mean_gradient("forget")
        shapes = trainer.task.params
        parts = apart.abs().split([value.numel() for value in shapes.values()])
        self.size = {name: part.view_as(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        self.weights = convolutions(trainer.task)

    def plan(self, setting: Setting, seed: int) -> Plan:
        anew = self.anew(setting)
        shares = [
            torch.where(anew[n], 1.0, KEPT) if n in anew else torch.full_like(v, KEPT) for n, v in self.size.items()
        ]
        mask = torch.cat([share.flatten() for share in shares])
        return replace(super().plan(setting, seed), terms=(Term("retain"),), mask=mask)

    def start(self, setting: Setting, seed: int) -> Params:
        anew, params = self.anew(setting), dict(self.trainer.task.params)
        generator = generator_of(["msg", str(seed)])
        for name, chosen in anew.items():
            drawn = nn.init.kaiming_normal_(torch.empty(chosen.shape), generator=generator).to(params[name])
            params[name] = torch.where(chosen, drawn, params[name])
        return params

    def anew(self, setting: Setting) -> dict[str, Tensor]:
        """By weight: which of its elements are drawn anew."""
        found = {}
        for name in self.weights:
            size = self.size[name].flatten()
            count = round(setting[INIT_RATE] * len(size))
            chosen = torch.zeros_like(size, dtype=torch.bool)
            chosen[size.argsort(stable=True)[:count]] = True
            found[name] = chosen.view_as(self.size[name])
        return found


def convolutions(task: Task) -> list[str]:
    """Names of the weights of all convolutions."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    return [f"{name}.weight".lstrip(".") for name, module in task.model.named_modules() if isinstance(module, kinds)]
