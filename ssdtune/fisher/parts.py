"""An analysis in parts that add up: over samples first, then over parameters; the same as the whole to float64 sums.

Part k of N has the k-th stretch of the units of either set: sums of its gradients and of their squares, and the rows of
those that are kept, cut into panels of neighbouring parameters. Once the sums of all parts have made the ratios, the
panels of one stretch of parameters, of all parts, give its share of every Gram matrix and row table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssdtune.arrays import Array
from ssdtune.fisher.crew import SETS, Groups, Notes, Work
from ssdtune.fisher.diagonal import Moments
from ssdtune.fisher.gather import Gathered, SetMoments, finish, one_pass
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.gram import gram_by_group
from ssdtune.fisher.memory import plan_memory
from ssdtune.fisher.rows import MemoryRows, Rows, SpilledRows
from ssdtune.fisher.tables import Bins
from ssdtune.fisher.units import Units
from ssdtune.progress import silent
from ssdtune.task import Chosen


@dataclass(frozen=True, eq=False)
class SetSums:
    """Of one set's units of a part: (P,) float64 sums of gradients and their squares, and values a unit."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    losses: NDArray[np.float64]
    squared_norms: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class PartSums:
    """The sums of a part by set, and how its gradients came."""

    sets: Mapping[str, SetSums]
    notes: Notes


@dataclass(frozen=True, eq=False)
class StretchSums:
    """A stretch of parameters' share of Gram matrices (n, n) by group and of row tables (n, knots) of all kept rows."""

    grams: Mapping[str, Array]
    plain: Array
    shrunk: Array


def cut(total: int, number: int, of: int) -> slice:
    """The ``number``-th of ``of`` stretches of ``total`` things, as even as can be."""
    return slice(number * total // of, (number + 1) * total // of)


def gather_part(work: Work, number: int, of: int) -> tuple[PartSums, dict[str, MemoryRows | SpilledRows]]:
    """Sums of the ``number``-th of ``of`` parts, and its kept rows by set.

    Raises DataError: as ``gather.one_pass``.
    """
    places = {name: cut(len(units), number, of) for name, units in work.units.items()}
    kept = {name: _inside(work.kept[name], place) for name, place in places.items()}
    plan = plan_memory(work.layout.parameters, tuple(map(len, kept.values())), work.budget)
    engine = GradientEngine(work.task, plan.workspace)
    sums, rows = {}, {}
    for (name, place), here in zip(places.items(), plan.kept, strict=True):
        samples, size = work.samples[name], work.size
        own = Chosen(samples, range(len(samples))[place.start * size : place.stop * size])
        found = one_pass(engine, Units(own, size, work.task.device), kept[name], plan, here, name, silent)
        sums[name], rows[name] = _sums(found), found.rows
    kinds = {name: found.kind for name, found in rows.items()}
    return PartSums(sums, replace(Notes.of(engine), rows=kinds)), rows


def merged(
    parts: Iterable[PartSums], parameters: int, kept: Mapping[str, NDArray[np.int64]], task: str
) -> tuple[dict[str, SetMoments], Notes]:
    """What the sums of all parts, in their order, say of the whole; they are added up as they come.

    kept : numbers of the units of the whole whose rows are kept. task : its name.

    Raises ModelError: all gradients of a set are zero.
    """
    totals = {name: Moments(parameters) for name in SETS}
    values: dict[str, list[SetSums]] = {name: [] for name in SETS}
    notes, none = [], np.empty(0)
    for part in parts:
        notes.append(part.notes)
        for name, sums in part.sets.items():
            totals[name].merge(len(sums.losses), sums.first, sums.second)
            values[name].append(replace(sums, first=none, second=none))
    found = {}
    for name, each in values.items():
        embedded = [sums.embeddings for sums in each if sums.embeddings is not None]
        found[name] = SetMoments(
            *finish(totals.pop(name), name, task),
            np.concatenate([sums.losses for sums in each]),
            np.concatenate([sums.squared_norms for sums in each]),
            np.concatenate(embedded) if embedded else None,
            kept[name],
        )
    said = dict.fromkeys(words for each in notes for words in each.warnings)
    failure = next((each.failure for each in notes if each.failure), "")
    return found, replace(notes[0], warnings=list(said), failure=failure)


def panels(rows: Mapping[str, Rows], parameters: int, stretches: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Each stretch of parameters of a part's kept rows (n, w), by set."""
    for number in range(stretches):
        place = cut(parameters, number, stretches)
        yield {name: np.ascontiguousarray(rows[name].columns(place).cpu().numpy()) for name in SETS}


def stretch_sums(
    place: slice, bins: Bins, groups: Groups, found: Sequence[Mapping[str, NDArray[np.float32]]], device: Any
) -> StretchSums:
    """What a stretch of parameters adds. bins : of the stretch. found : its panels, of all parts in their order."""
    rows = torch.from_numpy(np.concatenate([part[name] for name in SETS for part in found]))
    inside = {name: _clipped(places, place) for name, places in groups.items()}
    wanted = {name: places for name, places in inside.items() if places}
    grams = dict(gram_by_group([MemoryRows.of(rows.to(device))], wanted))
    return StretchSums(grams, *bins(rows))


def added(found: Iterable[StretchSums], groups: Groups, total: int) -> tuple[dict[str, Array], Array, Array]:
    """(Gram matrices by group, plain, shrunk) of all parameters; ``total`` rows."""
    grams = {name: np.zeros((total, total)) for name in groups}
    plain = shrunk = np.zeros(())
    for part in found:
        for name, gram in part.grams.items():
            grams[name] += gram
        plain, shrunk = plain + part.plain, shrunk + part.shrunk
    return grams, plain, shrunk


def _sums(found: Gathered) -> SetSums:
    return SetSums(*found.moments.sums(), found.losses, found.squared_norms, found.embeddings)


def _inside(kept: NDArray[Any], place: slice) -> NDArray[Any]:
    """Those in a stretch, counted from its start."""
    within: NDArray[Any] = kept[(kept >= place.start) & (kept < place.stop)] - place.start
    return within


def _clipped(places: Sequence[slice], window: slice) -> list[slice]:
    """What of the stretches lies in a window, counted from its start."""
    ends = ((max(p.start, window.start), min(p.stop, window.stop)) for p in places)
    return [slice(start - window.start, stop - window.start) for start, stop in ends if start < stop]
