"""A sample set made ready once: read, transformed, stacked by shape in scoring order, and kept where it is needed.

It is kept on the device if it fits the budget there, else in pinned host memory (copied one batch ahead), else it is
read anew each time, one batch ahead in a thread of its own.
"""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ssdtune.nests import as_tuples, cut, move, pinned, size_of, stack, values_of
from ssdtune.task import Samples, as_sample, each, shapes_of

Params = Mapping[str, Tensor]
DEFAULT_BUDGET = 4 * 2**30  # bytes, where the free memory is not known
_STEP = 16  # slices that are prepared together


class Reconstruction(Protocol):
    """A network for many evaluations of the same slices: ``ssdtune.mri.networks.fast``, or any model as it is.

    ``maps`` are what depends on the parameters whose names begin with ``map_params`` alone (None: nothing does).
    """

    map_params: str

    def ready(self, params: Params) -> Params: ...

    def prepare(self, *inputs: Tensor) -> tuple[Tensor, ...]: ...

    def maps(self, params: Params, sample: Any, /) -> Tensor | None: ...

    def __call__(self, params: Params, sample: Any, maps: Any = None, /) -> Any: ...


class PreparedBatch(NamedTuple):
    """Slices of one shape: places in the scoring order, numbers in the inputs of each, inputs, target, known maps of
    the untouched model."""

    places: np.ndarray
    values: int
    sample: Any
    target: Any
    maps: Tensor | None


@dataclass
class _Group:
    """All slices of one shape; ``places`` are rising, ``kept`` (sample, target) of them, stacked, or None.

    ``maps`` are the untouched model's, where ``mapped`` (bool) says so. ``values`` : numbers in a slice's inputs.
    """

    places: np.ndarray
    values: int
    kept: Any
    mapped: np.ndarray
    maps: Tensor | None = None


@dataclass
class _Reading:
    """What has been read of one shape: places in reading order, prepared parts of them, and those not yet prepared."""

    values: int
    places: list[int] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)

    def group(self) -> _Group:
        """All of it, in the order of the places."""
        rising = np.argsort(self.places)
        row_of = torch.from_numpy(np.argsort(rising))
        kept = stack(self.parts, list(row_of.split(_STEP))) if self.parts else None
        return _Group(np.array(self.places)[rising], self.values, kept, np.zeros(len(rising), bool))


class PreparedSet:
    """One sample set in a fixed order.

    samples : the set. order : its indices in scoring order. network : prepares inputs. prepare_target : likewise for
    targets, or None. budget : bytes it may take on the device. ``home`` is the device's kind, ``host`` or ``files``,
    ``bytes`` what it takes there. Raises what reading the samples raises.
    """

    def __init__(
        self,
        samples: Samples,
        order: np.ndarray,
        network: Reconstruction,
        prepare_target: Callable[[Any], Any] | None,
        device: torch.device,
        budget: float,
    ) -> None:
        self.samples, self.order, self.device = samples, order, device
        self._network, self._prepare_target, self._budget = network, prepare_target, budget
        self.home, self.bytes = device.type, 0.0
        self._host_budget = free_memory(torch.device("cpu")) / 2
        self.groups = self._read_all()

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, start: int, stop: int, size: Callable[[int], int]) -> Iterator[PreparedBatch]:
        """The slices at places ``start`` to ``stop`` of the order.

        ``size`` is asked before every batch how many slices it is to have, given the numbers in the inputs of one.
        """
        found = self._cut(start, stop, size)
        return found if self.home == self.device.type else _ahead(found, self.device)

    def give_maps(self, batch: PreparedBatch, maps: Tensor) -> None:
        """Keep the untouched model's maps of a batch for later ones, if the budget has room for those of its shape."""
        for group in self.groups:
            at = int(np.searchsorted(group.places, batch.places[0]))
            if at == len(group.places) or group.places[at] != batch.places[0]:
                continue
            if group.maps is None:
                size = maps[0].nbytes * len(group.places)
                if self.home != self.device.type or self.bytes + size > self._budget:
                    return
                self.bytes += size
                group.maps = maps.new_empty((len(group.places), *maps.shape[1:]))
            group.maps[at : at + len(batch.places)] = maps
            group.mapped[at : at + len(batch.places)] = True

    def forget_maps(self) -> None:
        """Drop the maps, which were made in another number format."""
        for group in self.groups:
            if group.maps is not None:  # not to be written to: copies of this set in other processes may share them
                self.bytes -= group.maps.nbytes
                group.maps = None
            group.mapped[:] = False

    def _cut(self, start: int, stop: int, size: Callable[[int], int]) -> Iterator[PreparedBatch]:
        for group in self.groups:
            first, last = (int(np.searchsorted(group.places, place)) for place in (start, stop))
            while first < last:
                batches = math.ceil((last - first) / size(group.values))  # of one size, as far as that goes
                end = first + math.ceil((last - first) / batches)
                places = group.places[first:end]
                if group.kept is not None:
                    sample, target = cut(group.kept, slice(first, end))
                else:
                    sample, target = self._prepare(
                        [as_sample(self.samples[int(self.order[place])]) for place in places]
                    )
                maps = group.maps[first:end] if group.maps is not None and group.mapped[first:end].all() else None
                yield PreparedBatch(places, group.values, sample, target, maps)
                first = end

    def _read_all(self) -> list[_Group]:
        """Read every slice once, in the set's own order, in which files follow one another; keep what fits."""
        readings: dict[Any, _Reading] = {}
        for place, sample in zip(np.argsort(self.order), map(as_sample, each(self.samples)), strict=True):
            shape = shapes_of(sample)
            reading = readings.setdefault(shape, _Reading(values_of(sample[0])))
            reading.places.append(int(place))
            reading.held.append(sample)
            if len(reading.held) == _STEP:
                self._keep(reading, readings.values())
        for reading in readings.values():
            self._keep(reading, readings.values())
        return [reading.group() for reading in readings.values()]

    def _keep(self, reading: _Reading, readings: Iterable[_Reading]) -> None:
        """Prepare what is held, and leave the device, then memory altogether, where that is too much for it."""
        if reading.held and self.home != "files":
            part = self._prepare(reading.held)
            self.bytes += size_of(part)
            reading.parts.append(part if self.home == self.device.type else pinned(part))
        reading.held = []
        if self.home == self.device.type and self.bytes > self._budget:
            self.home = "host" if self.device.type == "cuda" and self.bytes <= self._host_budget else "files"
            for other in readings:
                other.parts = [pinned(part) for part in other.parts] if self.home == "host" else []
        elif self.home == "host" and self.bytes > self._host_budget:
            self.home = "files"
        if self.home == "files":
            self.bytes = 0.0
            for other in readings:
                other.parts = []

    def _prepare(self, held: list[Any]) -> tuple[Any, Any]:
        """(sample, target) of slices of one shape, stacked and prepared on the device."""
        inputs, target = move(as_tuples(default_collate(held)), self.device)
        sample = self._network.prepare(*inputs)
        return sample, target if self._prepare_target is None else self._prepare_target(target)


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a device; ``DEFAULT_BUDGET`` where that is not known."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return DEFAULT_BUDGET


def _ahead(batches: Iterator[PreparedBatch], device: torch.device) -> Iterator[PreparedBatch]:
    """The same batches on the device, the next one fetched while this one is worked on."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def fetch() -> None:
        try:
            stream = torch.cuda.Stream(device) if device.type == "cuda" else None
            for batch in batches:
                with torch.cuda.stream(stream):
                    fetched = batch._replace(sample=move(batch.sample, device), target=move(batch.target, device))
                if stream is not None:
                    stream.synchronize()
                waiting.put(fetched)
                if stopped.is_set():
                    return
            waiting.put(None)
        except BaseException as reason:  # raised where the batch is asked for
            waiting.put(reason)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while thread.is_alive():
            try:
                waiting.get(timeout=0.05)
            except queue.Empty:
                continue
