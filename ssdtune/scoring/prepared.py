"""A sample set made ready once: read, transformed, stacked by shape in scoring order, and kept where it is needed.

It is kept on the device if it fits the budget there, else in pinned host memory (copied one batch ahead), else it is
read anew each time, one batch ahead in a thread of its own.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ssdtune.task import Samples, each, move, shapes_of

Params = Mapping[str, Tensor]
DEFAULT_BUDGET = 4 * 2**30  # bytes, where the free memory is not known
_STEP = 16  # slices that are prepared together


class Reconstruction(Protocol):
    """A network for many evaluations of the same slices: ``ssdtune.mri.quick``, or any model as it is.

    ``maps`` are what depends on the parameters whose names begin with ``map_params`` alone (None: nothing does).
    """

    map_params: str

    def ready(self, params: Params) -> Params: ...

    def prepare(self, *inputs: Tensor) -> tuple[Tensor, ...]: ...

    def maps(self, params: Params, sample: Any, /) -> Tensor | None: ...

    def __call__(self, params: Params, sample: Any, maps: Any = None, /) -> Any: ...


class PreparedBatch(NamedTuple):
    """Slices of one shape: places in the scoring order, inputs, target, known maps of the untouched model."""

    places: np.ndarray
    sample: Any
    target: Any
    maps: Tensor | None


@dataclass
class _Group:
    """All slices of one shape; ``places`` are rising, ``kept`` (sample, target) of them, stacked, or None.

    ``maps`` are the untouched model's, where ``mapped`` (bool) says so. ``values`` are those of a slice's first input.
    """

    places: np.ndarray
    values: int
    kept: Any
    mapped: np.ndarray
    maps: Tensor | None = None


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
        self.groups = self._read_all()

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, start: int, stop: int, size: Callable[[int], int]) -> Iterator[PreparedBatch]:
        """The slices at places ``start`` to ``stop`` of the order.

        ``size`` is asked before every batch how many slices it is to have, given the values of one's first input.
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
            group.mapped[:] = False

    def _cut(self, start: int, stop: int, size: Callable[[int], int]) -> Iterator[PreparedBatch]:
        for group in self.groups:
            first, last = (int(np.searchsorted(group.places, place)) for place in (start, stop))
            while first < last:
                end = min(first + size(group.values), last)
                places = group.places[first:end]
                if group.kept is not None:
                    sample, target = _cut(group.kept, slice(first, end))
                else:
                    sample, target = self._prepare(
                        [_as_sample(self.samples[int(self.order[place])]) for place in places]
                    )
                maps = group.maps[first:end] if group.maps is not None and group.mapped[first:end].all() else None
                yield PreparedBatch(places, sample, target, maps)
                first = end

    def _read_all(self) -> list[_Group]:
        """Read every slice once, in the set's own order, in which files follow one another; keep what fits."""
        place_of = np.argsort(self.order)
        places: dict[Any, list[int]] = {}
        values: dict[Any, int] = {}
        held: dict[Any, list[Any]] = {}
        parts: dict[Any, list[Any]] = {}

        def keep(shape: Any) -> None:
            if held[shape] and self.home != "files":
                part = self._prepare(held[shape])
                self.bytes += _bytes(part)
                parts.setdefault(shape, []).append(part if self.home != "host" else _map(_pinned, part))
            held[shape] = []

        for index, sample in enumerate(map(_as_sample, each(self.samples))):
            shape = shapes_of(sample)
            places.setdefault(shape, []).append(int(place_of[index]))
            values.setdefault(shape, sample[0][0].numel())
            held.setdefault(shape, []).append(sample)
            if len(held[shape]) == _STEP:
                keep(shape)
                self._move_home(self.bytes / (index + 1) * len(self.order), parts)
        for shape in places:
            keep(shape)
        self._move_home(self.bytes, parts)
        groups = []
        for shape, found in places.items():
            rising = np.argsort(found)
            kept = _join(parts.pop(shape, None), torch.from_numpy(rising))
            groups.append(_Group(np.array(found)[rising], values[shape], kept, np.zeros(len(found), bool)))
        return groups

    def _move_home(self, expected: float, parts: dict[Any, list[Any]]) -> None:
        """Leave the device, or memory altogether, as soon as the set is seen not to fit."""
        if self.home == self.device.type and expected > self._budget:
            roomy = self.device.type == "cuda" and expected <= free_memory(torch.device("cpu")) / 2
            self.home = "host" if roomy else "files"
            for shape, held in parts.items():
                parts[shape] = [_map(_pinned, part) for part in held] if roomy else []

    def _prepare(self, held: list[Any]) -> tuple[Any, Any]:
        """(sample, target) of slices of one shape, stacked and prepared on the device."""
        inputs, target = move(_as_tuples(default_collate(held)), self.device)
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
                    moved = batch._replace(sample=_moved(batch.sample, device), target=_moved(batch.target, device))
                if stream is not None:
                    stream.synchronize()
                waiting.put(moved)
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


def _moved(nest: Any, device: torch.device) -> Any:
    return _map(lambda value: value.to(device, non_blocking=True), nest)


def _map(change: Callable[[Tensor], Tensor], nest: Any) -> Any:
    """The nest with every tensor changed; named tuples keep their kind."""
    if isinstance(nest, Tensor):
        return change(nest)
    if isinstance(nest, Mapping):
        return {key: _map(change, value) for key, value in nest.items()}
    if isinstance(nest, tuple | list):
        values = [_map(change, value) for value in nest]
        return type(nest)(*values) if hasattr(nest, "_fields") else type(nest)(values)
    return nest


def _cut(nest: Any, places: slice) -> Any:
    return _map(lambda value: value[places], nest)


def _pinned(value: Tensor) -> Tensor:
    return value.cpu().pin_memory()


def _join(parts: list[Any] | None, order: Tensor) -> Any:
    """Nests of one form as one, stacked, in another order; None of none."""
    if not parts:
        return None
    first = parts[0]
    if isinstance(first, Tensor):
        joined = torch.cat(parts)[order.to(first.device)]
        return joined.pin_memory() if first.is_pinned() else joined
    if isinstance(first, Mapping):
        return {key: _join([part[key] for part in parts], order) for key in first}
    values = [_join(list(column), order) for column in zip(*parts, strict=True)]
    return type(first)(*values) if hasattr(first, "_fields") else type(first)(values)


def _bytes(nest: Any) -> float:
    total = 0.0

    def add(value: Tensor) -> Tensor:
        nonlocal total
        total += value.nbytes
        return value

    _map(add, nest)
    return total


def _as_tuples(nest: Any) -> Any:
    """What ``default_collate`` makes lists of, as tuples again."""
    if isinstance(nest, list):
        return tuple(_as_tuples(value) for value in nest)
    return nest


def _as_sample(item: Any) -> tuple[tuple[Any, ...], Any]:
    inputs, target = item
    return (inputs if isinstance(inputs, tuple) else (inputs,)), target
