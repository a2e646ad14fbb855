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

from ssdtune.nests import change, leaves
from ssdtune.task import Batch, Chosen, Samples, batches, sample_ids, shapes_of

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
        if self.size == 1:
            for number, batch in enumerate(batches(self.samples, 1, self.device)):
                yield Unit(number, [batch])
            return
        for number in range(len(self)):
            stretch = Chosen(self.samples, range(*self._ends(number)))
            yield Unit(number, list(batches(stretch, self.size, self.device)))

    def name(self, number: int) -> str:
        """The unit's samples by id."""
        start, stop = self._ends(number)
        return ", ".join(sample_ids(self.samples)[start:stop])

    def _ends(self, number: int) -> tuple[int, int]:
        return number * self.size, min((number + 1) * self.size, len(self.samples))


def stack(units: Sequence[Unit]) -> tuple[tuple[Any, ...], Any]:
    """(inputs, target) of single-part units of equal shapes, with a new leading axis over the units."""
    nests = [(unit.parts[0].inputs, unit.parts[0].target) for unit in units]
    stacked = iter([torch.stack(column) for column in zip(*map(leaves, nests), strict=True)])
    inputs, target = change(lambda _: next(stacked), nests[0])
    return inputs, target
