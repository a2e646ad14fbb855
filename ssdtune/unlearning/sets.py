"""The slices that a method trains on: chosen by their names, read once, stacked by shape, kept on the device; or read
anew for each batch where they are too large for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ssdtune.files import content_hash
from ssdtune.nests import as_tuples, change, move, size_of
from ssdtune.task import Samples, as_sample, shapes_of

MOST_KEPT = 4 * 2**30  # bytes of a set's samples; a larger set is not kept


class Batch(NamedTuple):
    """Slices of one shape on the device; ``inputs`` as the network takes them.

    group : which of the set's shapes. rows : (n,) their places among the slices of that shape, where what is kept of
    each (a teacher's output) is found.
    """

    inputs: Any
    target: Any
    group: int
    rows: Tensor

    @property
    def slices(self) -> int:
        return len(self.rows)


class TrainingSet:
    """Chosen samples of a set.

    prepare : makes stacked inputs ready for the network. size : slices a batch. never_one : whether a slice that is
    left over joins the batch before it (running statistics of one value per channel are not defined). Of samples that
    are more than ``MOST_KEPT`` in all none is kept, each batch is read when it is its turn.
    """

    def __init__(
        self,
        samples: Samples,
        chosen: Sequence[int],
        prepare: Callable[..., Any],
        device: torch.device | str,
        *,
        size: int,
        never_one: bool = False,
    ) -> None:
        self._samples, self._prepare, self._device = samples, prepare, device
        self._size, self._never_one = size, never_one
        shapes: dict[Any, list[int]] = {}
        held: dict[int, Any] = {}
        total = 0.0
        for index in chosen:
            sample = as_sample(samples[index])
            shapes.setdefault(shapes_of(sample), []).append(index)
            total += size_of(sample)
            if total <= MOST_KEPT:
                held[index] = sample
            else:
                held.clear()
        self._places = list(shapes.values())
        self._groups = []
        if len(held) == len(chosen):
            for places in self._places:
                inputs, target = self._stack([held.pop(index) for index in places])
                self._groups.append((prepare(*inputs), target))

    def __len__(self) -> int:
        return sum(map(len, self._places))

    def stream(self, key: Sequence[str]) -> Iterator[Batch]:
        """Endless batches; each slice once an epoch, in an order of the key's."""
        for epoch in count():
            own = [*key, str(epoch)]
            pieces = [
                (group, part)
                for group, places in enumerate(self._places)
                for part in self._cut(torch.tensor(shuffled(len(places), [*own, str(group)]), device=self._device))
            ]
            for number in shuffled(len(pieces), own):
                yield self._batch(*pieces[number])

    def in_order(self, raw: bool = False) -> Iterator[Batch]:
        """Every slice once; ``raw`` : with the inputs as the task gives them, read anew."""
        for group, places in enumerate(self._places):
            for rows in self._cut(torch.arange(len(places), device=self._device)):
                yield self._batch(group, rows, raw)

    def _cut(self, rows: Tensor) -> list[Tensor]:
        parts = list(rows.split(self._size))
        if self._never_one and len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def _batch(self, group: int, rows: Tensor, raw: bool = False) -> Batch:
        if self._groups and not raw:
            inputs, target = change(lambda value: value[rows], self._groups[group])
        else:
            inputs, target = self._read(group, rows)
            inputs = inputs if raw else self._prepare(*inputs)
        return Batch(inputs, target, group, rows)

    def _read(self, group: int, rows: Tensor) -> Any:
        places = self._places[group]
        return self._stack([as_sample(self._samples[places[row]]) for row in rows.tolist()])

    def _stack(self, held: list[Any]) -> Any:
        return move(as_tuples(default_collate(held)), self._device)


def shuffled(length: int, key: Sequence[str]) -> list[int]:
    """0 to length - 1 in an order of the key's."""
    order: list[int] = torch.randperm(length, generator=generator_of(key)).tolist()
    return order


def generator_of(key: Sequence[str]) -> torch.Generator:
    """A generator on the CPU, the same on every machine, seeded by words."""
    return torch.Generator().manual_seed(int(content_hash(key)[:15], 16))
