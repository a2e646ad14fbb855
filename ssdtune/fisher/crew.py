"""Who computes an analysis: this process alone, or a crew of processes on many machines, which come to the same.

Moments are sums over samples, Gram matrices and row tables sums over parameters; ``parts`` has both kinds of parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from numpy.typing import NDArray

from ssdtune.arrays import Array
from ssdtune.fisher.gather import SetMoments, evenly_spaced, gather
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.gram import gram_by_group
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.memory import MemoryPlan, plan_memory
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.rows import Rows
from ssdtune.fisher.tables import RowTables
from ssdtune.fisher.units import Units
from ssdtune.progress import Track, in_parts
from ssdtune.task import Samples, Task

SETS = ("forget", "retain")

Groups = Mapping[str, Sequence[slice]]
"""Stretches of the flat vector of parameters by the group's name."""


@dataclass(frozen=True, eq=False)
class Work:
    """What is analysed. size : samples a unit. most : units of each set whose rows are kept. budget : bytes."""

    task: Task
    size: int
    most: int
    budget: float

    @cached_property
    def layout(self) -> Layout:
        return Layout.of(self.task.params)

    @property
    def samples(self) -> dict[str, Samples]:
        return {name: getattr(self.task, name) for name in SETS}

    @cached_property
    def units(self) -> dict[str, Units]:
        return {name: Units(samples, self.size, self.task.device) for name, samples in self.samples.items()}

    @cached_property
    def kept(self) -> dict[str, NDArray[Any]]:
        """Numbers of the units whose rows are kept, rising, by set."""
        return {name: evenly_spaced(len(units), self.most) for name, units in self.units.items()}

    @cached_property
    def plan(self) -> MemoryPlan:
        """Raises ConfigError: the budget is too small."""
        return plan_memory(self.layout.parameters, tuple(map(len, self.kept.values())), self.budget)


@dataclass(frozen=True)
class Notes:
    """How gradients came. warnings : what a user should know. failure : why vectorising was given up. embeddings : the
    module where they were read. rows : where each set's rows were kept."""

    warnings: list[str] = field(default_factory=list)
    failure: str = ""
    embeddings: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: GradientEngine) -> Notes:
        return cls(engine.warnings, engine.failure, engine.bottleneck.name if engine.bottleneck else "")


class Crew(Protocol):
    """Computes one analysis: first ``gather``, then ``tables`` and ``grams``."""

    notes: Notes

    def gather(self, track: Track) -> Mapping[str, SetMoments]:
        """Each gradient of both sets, once. Raises what ``gather.gather`` raises."""

    def tables(self, ratios: SortedRatios, theta: NDArray[Any], groups: Groups, track: Track) -> dict[str, RowTables]:
        """Of the kept rows of each set. ``groups`` are those that ``grams`` will be asked for."""

    def grams(self) -> Iterator[tuple[str, Array]]:
        """(group, (n, n) Gram matrix of the kept rows over its parameters), the forget set's rows first."""


OpenCrew = Callable[[Work], Crew]


class AtHand:
    """The second half of a crew's work, for rows that this process can read."""

    def __init__(self) -> None:
        self._rows: dict[str, Rows] = {}
        self._groups: Groups = {}
        self.notes = Notes()

    def tables(self, ratios: SortedRatios, theta: NDArray[Any], groups: Groups, track: Track) -> dict[str, RowTables]:
        self._groups = groups
        found = {}
        for name, rows in self._rows.items():
            words = f"damage of the {name} set"
            blocks = in_parts(rows.blocks(), lambda block: len(block[1]), words, len(rows), track)
            found[name] = RowTables.of(ratios, theta, blocks, len(rows))
        return found

    def grams(self) -> Iterator[tuple[str, Array]]:
        return gram_by_group(list(self._rows.values()), self._groups)


class Alone(AtHand):
    """This process."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work, self._engine = work, GradientEngine(work.task, work.plan.workspace)

    def gather(self, track: Track) -> Mapping[str, SetMoments]:
        work, found = self._work, {}
        for (name, units), here in zip(work.units.items(), work.plan.kept, strict=True):
            found[name] = gather(self._engine, units, work.kept[name], work.plan, here, name, track)
            self._rows[name] = found[name].rows
        self.notes = replace(Notes.of(self._engine), rows={name: rows.kind for name, rows in self._rows.items()})
        return found
