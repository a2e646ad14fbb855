"""The slices that a method trains on: chosen by their names, read once, stacked by shape, kept on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ssdtune.files import content_hash
from ssdtune.nests import as_tuples, change, move
from ssdtune.task import Samples, as_sample, shapes_of


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
    left over joins the batch before it (running statistics of one value per channel are not defined).
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
        self._samples, self._device = samples, device
        self._size, self._never_one = size, never_one
        shapes: dict[Any, list[tuple[int, Any]]] = {}
        for index in chosen:
            sample = as_sample(samples[index])
            shapes.setdefault(shapes_of(sample), []).append((index, sample))
        self._places = [[index for index, _ in held] for held in shapes.values()]
        self._groups = []
        for held in shapes.values():
            inputs, target = self._stack([sample for _, sample in held])
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
                if raw:
                    held = [as_sample(self._samples[places[row]]) for row in rows.tolist()]
                    inputs, target = self._stack(held)
                    yield Batch(inputs, target, group, rows)
                else:
                    yield self._batch(group, rows)

    def _cut(self, rows: Tensor) -> list[Tensor]:
        parts = list(rows.split(self._size))
        if self._never_one and len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def _batch(self, group: int, rows: Tensor) -> Batch:
        inputs, target = change(lambda value: value[rows], self._groups[group])
        return Batch(inputs, target, group, rows)

    def _stack(self, held: list[Any]) -> Any:
        return move(as_tuples(default_collate(held)), self._device)


def shuffled(length: int, key: Sequence[str]) -> list[int]:
    """0 to length - 1 in an order of the key's."""
    order: list[int] = torch.randperm(length, generator=generator_of(key)).tolist()
    return order


def generator_of(key: Sequence[str]) -> torch.Generator:
    """A generator on the CPU, the same on every machine, seeded by words."""
    return torch.Generator().manual_seed(int(content_hash(key)[:15], 16))
