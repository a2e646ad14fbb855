"""A Fisher analysis on a Ray cluster: parts of the samples, then stretches of the parameters (``fisher.parts``).

Both are Ray's tasks, so one whose process or machine dies runs again, and so does one whose results went with it. Rows
of gradients go from one to the other through Ray's store, which writes to disk what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ssdtune.arrays import Array
from ssdtune.fisher.crew import SETS, Crew, Groups, Notes, OpenCrew, Work
from ssdtune.fisher.gather import SetMoments
from ssdtune.fisher.parts import PartSums, StretchSums, added, cut, gather_part, merged, panels, stretch_sums
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.tables import Bins, RowTables, knots_of
from ssdtune.progress import Track
from ssdtune.study.cluster import Places, check_versions, next_result, sent
from ssdtune.study.parcel import Parcel, unpack
from ssdtune.study.record import package_versions

if TYPE_CHECKING:
    import ray

_PANEL_SHARE = 0.25  # of the memory budget, for the panels of one stretch


def crew_on(places: Places) -> OpenCrew:
    """A crew of a cluster, within ``cluster.cluster``: one process for each of its places."""
    return lambda work: RayCrew(work, places)


class RayCrew(Crew):
    """See ``fisher.crew.Crew``."""

    def __init__(self, work: Work, places: Places) -> None:
        import ray

        self._ray, self._work, self._places = ray, work, places
        self._parts = places.number()
        size = work.layout.parameters
        rows = 4 * size * sum(map(len, work.kept.values()))
        self._stretches = min(max(self._parts, -int(-rows // (_PANEL_SHARE * work.budget))), size)
        self._parcel = ray.put(sent(work))
        self._panels: list[list[ray.ObjectRef]] = []
        self._groups: Groups = {}
        self._grams: Mapping[str, Array] = {}
        self.notes = Notes()

    def gather(self, track: Track) -> Mapping[str, SetMoments]:
        work, task = self._work, self._remote(_part, 1 + self._stretches)
        each = (self._places, self._parcel)
        started = [task.remote(*each, number, self._parts, self._stretches) for number in range(self._parts)]
        self._panels = [found[1:] for found in started]
        sums = self._results([found[0] for found in started], "gradients", track)
        found, self.notes = merged(map(_checked, sums), work.layout.parameters, work.kept, work.task.name)
        return found

    def tables(self, ratios: SortedRatios, theta: NDArray[Any], groups: Groups, track: Track) -> dict[str, RowTables]:
        knots, work = knots_of(ratios), self._work
        bins, task, started = Bins.of(ratios, theta, knots), self._remote(_stretch, 1), []
        for number, found in enumerate(zip(*self._panels, strict=True)):
            place = cut(work.layout.parameters, number, self._stretches)
            device = str(work.task.device)
            started.append(task.remote(self._places, place, bins.stretch(place), groups, device, *found))
        self._panels = []
        sums = self._results(started, "damage and Gram matrices", track)
        total = sum(map(len, work.kept.values()))
        self._grams, plain, shrunk = added(sums, groups, total)
        tables, first = {}, 0
        for name in SETS:
            own = slice(first, first := first + len(work.kept[name]))
            tables[name] = RowTables(knots, plain[own], shrunk[own], len(work.kept[name]))
        return tables

    def grams(self) -> Iterator[tuple[str, Array]]:
        """(name, Gram matrix (n, n)) of each group."""
        return iter(self._grams.items())

    def _remote(self, work: Any, results: int) -> Any:
        return self._ray.remote(work).options(**self._places.needs, num_returns=results, max_retries=3)

    def _results(self, started: list[Any], description: str, track: Track) -> Iterator[Any]:
        """What tasks have come to, in their order, each let go once it is used; all are given up after an error."""
        try:
            for _ in track(range(len(started)), description, len(started)):
                yield next_result(started[:1], self._places)[1]
                del started[0]
        finally:
            for each in started:
                self._ray.cancel(each, force=True)


def _checked(found: tuple[PartSums, dict[str, str]]) -> PartSums:
    check_versions(found[1])
    return found[0]


def _part(places: Places, parcel: Parcel, number: int, of: int, stretches: int) -> Iterator[Any]:
    """In another process: the sums of a part, then its rows, stretch by stretch."""
    places.settle()
    work: Work = unpack(parcel)
    sums, rows = gather_part(work, number, of)
    yield sums, package_versions()
    yield from panels(rows, work.layout.parameters, stretches)


def _stretch(places: Places, place: slice, bins: Bins, groups: Groups, device: str, *found: Any) -> StretchSums:
    """In another process: what a stretch of the parameters adds."""
    places.settle()
    return stretch_sums(place, bins, groups, found, device)
