"""The units whose gradients make a Fisher information: samples one by one, or mini-batches in the set's order.

``"per-sample"``: a unit is one sample. ``"batch"``: unit j is samples [j b, (j + 1) b), as the published code's data
loader gives them, and its gradient is that of the mean loss. Samples of different shapes cannot be stacked: such a
mini-batch comes in parts of one shape, whose gradients are averaged by their share of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ssdtune.task import Batch, Samples, as_sample, batches, move, sample_ids, shapes_of

Definition = Literal["per-sample", "batch"]


@dataclass(frozen=True)
class Unit:
    """One gradient's worth of data: usually one part, several where shapes differ."""

    number: int
    parts: list[Batch]

    @cached_property
    def shapes(self) -> Any:
        """Comparable; units of equal shapes can be vectorised together (None: not at all)."""
        return shapes_of(self.parts[0][1:]) if len(self.parts) == 1 else None

    @property
    def shares(self) -> list[float]:
        """Share of each part in the mean loss."""
        sizes = [len(part.indices) for part in self.parts]
        return [size / sum(sizes) for size in sizes]


@dataclass(frozen=True)
class Units:
    """The units of a sample set, of ``size`` samples each."""

    samples: Samples
    size: int = 1
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return -(-len(self.samples) // self.size)

    def __iter__(self) -> Iterator[Unit]:
        for number in range(len(self)):
            if self.size == 1:
                yield Unit(number, [_alone(number, self.samples[number], self.device)])
            else:
                yield Unit(number, list(batches(_Stretch(self.samples, *self._ends(number)), self.size, self.device)))

    def name(self, number: int) -> str:
        """The unit's samples by id."""
        start, stop = self._ends(number)
        return ", ".join(sample_ids(self.samples)[start:stop])

    def _ends(self, number: int) -> tuple[int, int]:
        return number * self.size, min((number + 1) * self.size, len(self.samples))


@dataclass(frozen=True)
class _Stretch:
    samples: Samples
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int, /) -> Any:
        return self.samples[self.start + index]


def stack(units: Sequence[Unit]) -> tuple[tuple[Any, ...], Any]:
    """(inputs, target) of single-part units of equal shapes, with a new leading axis over the units."""
    inputs, target = _stacked([(unit.parts[0].inputs, unit.parts[0].target) for unit in units])
    return inputs, target


def _alone(index: int, sample: Any, device: torch.device | str) -> Batch:
    """A batch of one, as ``task.batches`` makes it, without a copy of its tensors."""
    inputs, target = _alone_nest(as_sample(sample))
    return Batch([index], move(inputs, device), move(target, device))


def _alone_nest(nest: Any) -> Any:
    if isinstance(nest, Tensor):
        return nest.unsqueeze(0)
    if type(nest) is tuple:
        return tuple(_alone_nest(value) for value in nest)
    if isinstance(nest, dict):
        return {key: _alone_nest(value) for key, value in nest.items()}
    return default_collate([nest])


def _stacked(nests: Sequence[Any]) -> Any:
    """Nests of tensors of equal shapes, leaf by leaf (several times quicker than ``default_collate``)."""
    first = nests[0]
    if isinstance(first, Tensor):
        return torch.stack(list(nests))
    if type(first) is tuple:
        return tuple(_stacked(values) for values in zip(*nests, strict=True))
    if isinstance(first, dict):
        return {key: _stacked([nest[key] for nest in nests]) for key in first}
    return default_collate(list(nests))
