"""Several dampened models at once: their parameters stacked, all networks run as one by ``torch.vmap``.

A small network on few slices leaves a device idle between its many small kernels; one kernel then does the work of
several models. It pays where a batch has room for more slices than a model is to be measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from ssdtune.objective.evaluator import Evaluator, Measured, is_out_of_memory, wait_for
from ssdtune.objective.nests import change
from ssdtune.objective.prepared import Params, PreparedBatch, PreparedSet

FEWEST, MOST = 4, 8  # models at once: fewer do not pay
SMALL = 2**20  # parameters of a model


def room_for(evaluator: Evaluator, names: Sequence[str], slices: int) -> int:
    """How many models are to be evaluated at once on so many slices of each set; 0 where one by one is better."""
    if not evaluator.network.stackable or sum(value.numel() for value in evaluator.task.params.values()) > SMALL:
        return 0
    values = max(group.values for name in names for group in evaluator.prepared(name).groups)
    most = min(MOST, evaluator.batch_of(values) // slices)
    return most if most >= FEWEST else 0


@torch.no_grad()
def measure_together(
    evaluator: Evaluator, params: Sequence[Params], names: Sequence[str], slices: int
) -> list[Measured]:
    """Evaluations of which the first slices of each named set are measured, as ``Measured.extend`` would.

    Empty, so that each is to be measured by itself, where an output is not finite, as one model's must not touch the
    others', and where anything goes wrong, after which it is not tried again: memory runs out (``Evaluator.say`` is
    told), or ``vmap`` cannot run the model; what is wrong with one by itself is said there.
    """
    try:
        found = [evaluator.start(one) for one in params]
        for same_maps in (True, False):
            alike = [one for one in found if one.same_maps == same_maps]
            if alike:
                _measure(evaluator, alike, names, slices)
    except Exception as reason:
        evaluator.network.stackable = False
        if is_out_of_memory(reason):
            evaluator.say(f"out of memory on {evaluator.task.device}: going on with one model at a time")
        return []
    return [] if any(one.broken for one in found) else found


def _measure(evaluator: Evaluator, found: Sequence[Measured], names: Sequence[str], slices: int) -> None:
    """``found`` either all have the untouched model's sensitivity maps, or none has."""
    stacked = {name: torch.stack([one.params[name] for one in found]) for name in found[0].params}
    for name in names:
        data = evaluator.prepared(name)
        stop = min(slices, len(data))
        for batch in data.batches(0, stop, lambda values: slices):
            with evaluator.account.timed("reconstruct"):
                outputs = _reconstruct(evaluator, found[0], stacked, data, batch)
                wait_for(outputs)
            for number, one in enumerate(found):
                one.score(name, data, batch, change(itemgetter(number), outputs))
        for one in found:
            one.done[name] = stop


def _reconstruct(
    evaluator: Evaluator, first: Measured, stacked: dict[str, Tensor], data: PreparedSet, batch: PreparedBatch
) -> Any:
    """(models, slices, ...) outputs."""
    network = evaluator.network
    if first.same_maps:
        return torch.vmap(network, (0, None, None))(stacked, batch.sample, first.known_maps(data, batch))
    if not network.map_params:
        return torch.vmap(network, (0, None, None))(stacked, batch.sample, None)
    maps = torch.vmap(network.maps, (0, None))(stacked, batch.sample)
    return torch.vmap(network, (0, None, 0))(stacked, batch.sample, maps)
