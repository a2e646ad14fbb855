"""Boundary Shrink (Chen et al., CVPR 2023), for classifiers: forget samples go to the nearest other class.

    min CE(f(x_f), y'),   y' = argmax f_theta0(x_f + eps rms(x) sign(grad_x J(theta0; x, y)))

The first step of ``psg`` with hard labels, and no retain samples. Published: eps 0.1 on inputs in [0, 1], SGD at 1e-5
with momentum, a rate that has no counterpart in Adam's: nothing is enqueued. Perturbed inputs are not cut to [0, 1], as
what inputs may be is not known.

Traps: where eps is too small to cross a boundary, y' is the sample's own class, which is then trained once more.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from ssdtune.progress import Track
from ssdtune.task import Task
from ssdtune.unlearning.ft import FT
from ssdtune.unlearning.method import Analyse, Knob, Unlearner
from ssdtune.unlearning.psg import EPS, PSG, PerturbedOptions, PSGUnlearner
from ssdtune.unlearning.training import Trainer


class BoundaryShrinkOptions(PerturbedOptions):
    """Those of ``psg`` but for the retain loss; no noise in the sign by default."""

    gamma: float = 0.0


class BoundaryShrink(PSG):
    """The method."""

    name, summary = "boundary-shrink", "Forget samples towards the nearest other class: for classifiers"
    Options = BoundaryShrinkOptions
    sets = ("forget",)

    def needs(self, task: Task, options: Any) -> str | None:
        lacking = super().needs(task, options)
        return "classes (a loss that is cross_entropy)" if not lacking and task.loss is not cross_entropy else lacking

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return *FT.knobs(self, options), Knob.over(EPS, options.eps, about="perturbation over the input's rms")

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return PSGUnlearner(Trainer(task, options, sets=self.sets), to_class, options)


def to_class(output: Tensor, reference: Tensor, target: Any) -> Tensor:
    """Cross entropy to the reference's most likely class."""
    return cross_entropy(output, reference.argmax(1))
