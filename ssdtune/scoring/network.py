"""The network that an evaluator asks: the model's quick form in some arrangement, or the model as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssdtune.scoring.captured import Captured
from ssdtune.scoring.prepared import Params, Reconstruction
from ssdtune.task import Task


@dataclass(frozen=True)
class Arrangement:
    """How networks with a quick form run: see ``mri.quick.Nets``; ``captured`` : as CUDA graphs."""

    channels_last: bool = False
    compiled: bool = False
    captured: bool = False

    def __str__(self) -> str:
        words = {"channels-last": self.channels_last, "compiled": self.compiled, "as CUDA graphs": self.captured}
        return " and ".join(word for word, chosen in words.items() if chosen) or "plainly"


PLAIN = Arrangement()


class AsItIs:
    """A task's model without a quick form."""

    map_params = ""

    def __init__(self, task: Task) -> None:
        self._task, self.stackable = task, True  # until it turns out not to be

    def ready(self, params: Params) -> Params:
        return params

    def prepare(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return inputs

    def maps(self, params: Params, sample: Any, /) -> None:
        return None

    def __call__(self, params: Params, sample: Any, maps: Any = None, /) -> Any:
        return self._task.predict(params, sample)


def build_network(task: Task, dtype: torch.dtype, arrangement: Arrangement) -> Reconstruction:
    """A model without a quick form runs as it is, whatever is asked for."""
    quick = getattr(task.model, "quick", None)
    if not callable(quick):
        return AsItIs(task)
    network: Reconstruction = quick(dtype, channels_last=arrangement.channels_last, compiled=arrangement.compiled)
    return Captured(network) if arrangement.captured else network
