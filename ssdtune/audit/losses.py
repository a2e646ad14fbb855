"""Loss and error of every slice alone, and how many steps bring the loss of a set back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssdtune.device import full_precision
from ssdtune.task import Samples, Task, batches, stream

Params = Mapping[str, Tensor]
Reference = Callable[[tuple[Tensor, ...]], Any]
"""The output of no model for a batch of inputs: the zero-filled images."""

NMSE = "nmse"

RATE, TOLERANCE, EPOCHS, LOOKS, BATCH = 1e-3, 0.05, 10, 8, 4


class Slicewise(NamedTuple):
    """(n,) of each sample by itself: the task's loss, and the NMSE where the task measures it, else the loss again."""

    losses: np.ndarray
    errors: np.ndarray


@full_precision()
@torch.no_grad()
def slicewise(task: Task, samples: Samples, params: Params | None, reference: Reference | None = None) -> Slicewise:
    """Loss and error of a model, or of ``reference``'s outputs where that is given."""
    losses, errors = [], []
    for batch in batches(samples, 1, task.device):
        output = task.predict(params, batch.inputs) if reference is None else reference(batch.inputs)
        losses.append(float(task.loss(output, batch.target)))
        errors.append(float(task.measures(output, batch.target).get(NMSE, losses[-1])))
    return Slicewise(np.array(losses), np.array(errors))


@full_precision()
def relearn_steps(task: Task, samples: Samples, start: Params, goal: float) -> tuple[int | None, int]:
    """(Adam steps on ``samples`` until their mean loss is at most ``goal``, the most that were allowed).

    From parameters ``start``, batches of 4, rate 1e-3, at most 10 epochs; None where that was not enough. The loss is
    looked at before the first step and 8 times an epoch, so the count is right to an eighth of one. Sources: relearn
    time of Tarun et al., "Deep regression unlearning", ICML 2023, whose code has the rate; 10 epochs as there.
    """
    twin = task.twin()
    twin.load_state_dict(dict(start), strict=False)
    optimiser = torch.optim.Adam(twin.parameters(), lr=RATE)
    an_epoch = -(-len(samples) // BATCH)
    most, every = EPOCHS * an_epoch, math.ceil(an_epoch / LOOKS)

    @torch.no_grad()
    def reached() -> bool:
        total = sum(
            float(task.loss(twin(*batch.inputs), batch.target)) * len(batch.indices)
            for batch in batches(samples, BATCH, task.device)
        )
        return total / len(samples) <= goal

    if reached():
        return 0, most
    for step, batch in enumerate(islice(stream(samples, BATCH, 0, task.device), most), 1):
        optimiser.zero_grad()
        task.loss(twin(*batch.inputs), batch.target).backward()
        optimiser.step()
        if (step % every == 0 or step == most) and reached():
            return step, most
    return None, most
