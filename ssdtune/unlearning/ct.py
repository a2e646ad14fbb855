"""CT, convolution transpose (a finalist of the NeurIPS 2023 unlearning challenge; as in deepunlearn, Cadet et
al., 2024).

The last two axes of every square kernel are swapped, then fine-tuning on retain samples: min J_r from there. The reset
costs nothing and reaches all layers; what retain samples do not bring back is gone. Published: SGD at 1e-3 with a
cosine, 3 epochs; a rate of SGD has no counterpart in Adam's, so nothing is enqueued.

Traps: for a VarNet a transposed kernel is a drastic reset, expect to need many steps; a network whose kernels are
symmetric would not feel it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ssdtune.progress import Track
from ssdtune.task import Task
from ssdtune.unlearning.ft import FT, FTOptions, FTUnlearner, Steps
from ssdtune.unlearning.method import Analyse, Params, Setting, Unlearner
from ssdtune.unlearning.training import Trainer


class CTOptions(FTOptions):
    """Those of fine-tuning, with more steps."""

    steps: Steps = (8, 60)


class CT(FT):
    """The method."""

    name, summary = "ct", "Transposes all convolution kernels, then fine-tunes on retain samples"
    Options = CTOptions

    def needs(self, task: Task, options: Any) -> str | None:
        return super().needs(task, options) if kernels(task) else "a convolution with a square kernel"

    def published(self, options: Any) -> list[dict[str, float]]:
        return []

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return CTUnlearner(Trainer(task, options, sets=self.sets))


class CTUnlearner(FTUnlearner):
    """CT on one task."""

    def start(self, setting: Setting, seed: int) -> Params:
        task = self.trainer.task
        swapped = set(kernels(task))
        return {name: value.mT.contiguous() if name in swapped else value for name, value in task.params.items()}


def kernels(task: Task) -> list[str]:
    """Names of the weights of convolutions over two dimensions whose kernels are square, of more than one pixel."""
    found = []
    for name, module in task.model.named_modules():
        if (
            isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
            and 1 < module.weight.shape[-1] == module.weight.shape[-2]
        ):
            found.append(f"{name}.weight".lstrip("."))
    return found
