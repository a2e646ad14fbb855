"""Many evaluations of one task: everything that does not depend on the parameters is done once.

``evaluation.evaluate`` is the plain way and the reference; an ``Evaluator`` gives the same measures to 1e-5, in parts
if asked to, and adds up what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssdtune.device import trim_heap
from ssdtune.objective.account import Account
from ssdtune.objective.evaluation import Measures, finite_rows, volume_means
from ssdtune.objective.order import stratified_order
from ssdtune.objective.prepared import Params, PreparedBatch, PreparedSet, Reconstruction, free_memory
from ssdtune.progress import Track, silent
from ssdtune.task import Task, model_hash

Say = Callable[[str], None]

_SHARE = 0.5  # of the free memory that prepared data may take
_MOST = 64  # slices at once
_ON_CPU, _ELSEWHERE = 2**19, 2**25  # numbers in their inputs: beyond that a CPU's caches lose what batches gain
_NO_MEMORY = ("out of memory", "can't allocate memory")


class AsItIs:
    """A task's model without a quick form."""

    map_params = ""

    def __init__(self, task: Task) -> None:
        self._task = task

    def ready(self, params: Params) -> Params:
        return params

    def prepare(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs (batch, ...) as they are."""
        return inputs

    def maps(self, params: Params, sample: Any, /) -> None:
        return None

    def __call__(self, params: Params, sample: Any, maps: Any = None, /) -> Any:
        return self._task.predict(params, sample)


class Evaluator:
    """Evaluates a task's model under many parameters.

    batch_size : slices at once, by default by their size; halved, which ``say`` is told, where the device's memory does
    not hold them.
    dtype : what the networks compute in, for models that have a quick form (``mri.networks.fast``).
    memory_budget : bytes that prepared data may take on the device; default half of what is free. Sensitivity maps of
    the untouched model, once made, are kept as far as it goes.
    """

    def __init__(
        self,
        task: Task,
        *,
        batch_size: int | None = None,
        dtype: torch.dtype = torch.float32,
        memory_budget: float | None = None,
        say: Say = lambda words: None,
    ) -> None:
        self.task, self.say = task, say
        self.account = Account()
        self._device = torch.device(task.device)
        self.batch_size = _MOST if batch_size is None else batch_size
        by_size = _ON_CPU if self._device.type == "cpu" else _ELSEWHERE
        self._values = by_size if batch_size is None else math.inf
        self._budget = free_memory(self._device) * _SHARE if memory_budget is None else memory_budget
        self.identity = {**task.identity, "model": model_hash(task.model)}
        self._sets: dict[str, PreparedSet] = {}
        self._untouched: Measured | None = None
        self.network: Reconstruction
        self.compute_in(dtype)

    def compute_in(self, dtype: torch.dtype) -> None:
        """Change what the networks compute in; prepared data stay, the untouched model's measures do not."""
        self.dtype, self._untouched = dtype, None
        quick = getattr(self.task.model, "quick", None)
        for data in self._sets.values():
            data.forget_maps()
        self.network = quick(dtype) if callable(quick) else AsItIs(self.task)

    def fits(self, task: Task) -> bool:
        """Whether model, loss, data and mask are still those that were prepared."""
        return self.identity == {**task.identity, "model": model_hash(task.model)}

    def prepared(self, name: str) -> PreparedSet:
        """A scored set made ready, in its fixed order; read at the first call."""
        if name not in self._sets:
            samples = self.task.scored_sets[name]
            with self.account.timed("io"):
                here = [known for known in self._sets.values() if known.home == self._device.type]
                left = self._budget - sum(known.bytes for known in here)
                prepare = getattr(self.task.quality, "prepare", None)
                order = stratified_order(samples, name)
                made = PreparedSet(samples, order, self.network, prepare, self._device, left)
                trim_heap()  # of what it was put together from
            self._sets[name] = made
            if made.home != self._device.type:
                self.say(f"the {name} set does not fit in memory beside the model: kept in {made.home}")
        return self._sets[name]

    def prepare(self) -> None:
        """Make all sets ready now, with the untouched model's maps, for copies of this evaluator elsewhere."""
        untouched = self.start(None)
        for name in self.task.scored_sets:
            data = self.prepared(name)
            if untouched.same_maps and data.home == self._device.type:
                with torch.no_grad():
                    for batch in data.batches(0, len(data), self.batch_of):
                        untouched.known_maps(data, batch)

    def batch_of(self, values: int) -> int:
        """Slices at once, with so many numbers in the inputs of each."""
        return max(1, round(min(self.batch_size, self._values / values)))

    def halve(self, size: int, values: int | None = None) -> bool:
        """Smaller batches than ``size`` slices of so many numbers each, for which memory ran out; False if there are
        none."""
        if size <= 1:
            return False
        if values is None or math.isinf(self._values):
            self.batch_size = size // 2
        else:  # other sizes of slices may have other numbers at once
            self._values = size // 2 * values
        self.say(f"out of memory on {self.task.device}: going on with batches of {size // 2}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True

    @property
    def slices(self) -> int:
        """Slices of all scored sets."""
        return sum(len(samples) for samples in self.task.scored_sets.values())

    def start(self, params: Params | None) -> Measured:
        """An evaluation of which nothing is measured yet."""
        return Measured(self, params)

    def untouched(self, track: Track = silent) -> Measured:
        """The untouched model, measured in full."""
        if self._untouched is None:
            found = self.start(None)
            found.finish(track)
            self._untouched = found
        return self._untouched

    def recall(self, values: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Take the untouched model's measures as known, each (n,) in its set's own order, instead of measuring it."""
        if self._untouched is None:
            self._untouched = self.start(None)
            self._untouched.take(values)

    def measures(self, params: Params | None) -> Measures:
        """All measures in full, as ``evaluate`` gives them."""
        found = self.start(params)
        found.finish()
        return found.measures()


class Measured:
    """One model's measures, as far as they are taken: ``columns[set][measure]`` (n,) in scoring order, NaN elsewhere.

    ``done[set]`` slices are measured, always the first ones of the order. A slice whose output is not finite has NaN
    for every measure. ``same_maps`` : whether its sensitivity maps are the untouched model's. ``params`` are ready for
    the network.
    """

    def __init__(self, evaluator: Evaluator, params: Params | None) -> None:
        self._evaluator = evaluator
        names = evaluator.task.scored_sets
        self.columns: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
        self.done = dict.fromkeys(names, 0)
        own = evaluator.task.params
        prefix = evaluator.network.map_params
        self.same_maps = bool(prefix) and (
            params is None or all(torch.equal(params[n], own[n]) for n in own if n.startswith(prefix))
        )
        self.params = evaluator.network.ready(own if params is None else params)

    def quality(self, name: str) -> np.ndarray:
        """(done,) the quality q of a set's measured slices."""
        return next(iter(self.columns[name].values()))[: self.done[name]]

    @property
    def broken(self) -> list[str]:
        """Sets in which a measured slice has no finite quality."""
        return [name for name in self.columns if self.done[name] and not np.isfinite(self.quality(name)).all()]

    def extend(self, name: str, stop: int) -> None:
        """Measure the set's slices up to place ``stop`` of its order."""
        data = self._evaluator.prepared(name)
        stop, evaluator = min(stop, len(data)), self._evaluator
        with torch.no_grad():
            while self.done[name] < stop:
                reading: tuple[int, int | None] = evaluator.batch_size, None  # a batch of unknown size
                tried = reading
                try:
                    for batch in data.batches(self.done[name], stop, evaluator.batch_of):
                        tried = len(batch.places), batch.values
                        self._measure(name, data, batch)
                        tried = reading
                    self.done[name] = stop
                except (RuntimeError, MemoryError) as reason:
                    if not is_out_of_memory(reason) or not evaluator.halve(*tried):
                        raise

    def finish(self, track: Track = silent) -> None:
        """Measure all that is left."""
        for name in track(list(self.columns), "slices", len(self.columns)):
            self.extend(name, len(self._evaluator.prepared(name)))

    def take(self, values: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Know all measures from ``values``, in each set's own order, as ``measures`` gives them."""
        for name in self.columns:
            order = self._evaluator.prepared(name).order
            self.columns[name] = {measure: column[order] for measure, column in values[name].items()}
            self.done[name] = len(order)

    def measures(self) -> Measures:
        """All measures in each set's own order; all slices must be measured."""
        places = {name: np.argsort(self._evaluator.prepared(name).order) for name in self.columns}
        values = {
            name: {key: each[places[name]] for key, each in columns.items()} for name, columns in self.columns.items()
        }
        return Measures(values, volume_means(self._evaluator.task, values))

    def _measure(self, name: str, data: PreparedSet, batch: PreparedBatch) -> None:
        evaluator, network = self._evaluator, self._evaluator.network
        with evaluator.account.timed("reconstruct"):
            maps = self.known_maps(data, batch) if self.same_maps else network.maps(self.params, batch.sample)
            output = network(self.params, batch.sample, maps)
            wait_for(output)
        self.score(name, data, batch, output)

    def known_maps(self, data: PreparedSet, batch: PreparedBatch) -> Tensor | None:
        """The untouched model's sensitivity maps of a batch, which are made once and kept; for ``same_maps`` only."""
        if batch.maps is not None:
            return batch.maps
        maps = self._evaluator.network.maps(self.params, batch.sample)
        if maps is not None:
            data.give_maps(batch, maps)
        return maps

    def score(self, name: str, data: PreparedSet, batch: PreparedBatch, output: Any) -> None:
        """Take the measures of a batch's output."""
        evaluator = self._evaluator
        with evaluator.account.timed("score"):
            finite = finite_rows(output, len(batch.places))
            for measure, column in evaluator.task.measures(output, batch.target).items():
                kept = np.where(finite, column.cpu().double().numpy(), np.nan)
                self.columns[name].setdefault(measure, np.full(len(data), np.nan))[batch.places] = kept
        evaluator.account.slices += len(batch.places)


def is_out_of_memory(reason: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or a CPU."""
    known = isinstance(reason, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(reason).lower() for words in _NO_MEMORY)


def wait_for(output: Any) -> None:
    """Until a GPU is done, so that its time is counted where it is spent."""
    if isinstance(output, Tensor) and output.is_cuda:
        torch.cuda.synchronize(output.device)
