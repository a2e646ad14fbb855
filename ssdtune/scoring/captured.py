"""A network as CUDA graphs: all kernels of a batch are launched as one, which is most of what small networks take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ssdtune.scoring.nests import change, leaves
from ssdtune.scoring.prepared import Params, Reconstruction
from ssdtune.task import shapes_of

RECORD_AT = 3  # a shape of batch is recorded when it comes so many times

Replay = Callable[[], None]
Record = Callable[[Callable[[], Tensor]], tuple[Replay, Tensor]]
"""Records a run on tensors that stay where they are: how to run it again, and where its output then lies."""


class Captured:
    """``network``, each shape of batch run from a recording after the first times.

    Parameters, slices and maps are copied to where the recordings read them. What cannot be recorded runs as it is.
    ``record`` is ``on_gpu`` but for tests.
    """

    stackable = False

    def __init__(self, network: Reconstruction, record: Record | None = None) -> None:
        self.map_params = network.map_params
        self._network, self._record = network, record or OnGpu()
        self._params: dict[str, Tensor] = {}  # where the recordings read them
        self._loaded: Params | None = None  # those they hold
        self._seen: dict[Any, int] = {}
        self._recordings: dict[Any, tuple[Replay, Tensor, list[Tensor]] | None] = {}

    def release(self) -> None:
        """Give up all recordings and what they hold in memory."""
        self._params, self._loaded = {}, None
        self._seen.clear()
        self._recordings.clear()
        if isinstance(self._record, OnGpu):
            self._record = OnGpu()

    def ready(self, params: Params) -> Params:
        return self._network.ready(params)

    def prepare(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._network.prepare(*inputs)

    def maps(self, params: Params, sample: Any, /) -> Tensor | None:
        return self._run("maps", self._network.maps, params, sample) if self.map_params else None

    def __call__(self, params: Params, sample: Any, maps: Any = None, /) -> Any:
        return self._run("images", self._network, params, sample, maps)

    def _run(self, what: str, function: Callable[..., Any], params: Params, *given: Any) -> Any:
        key = (what, shapes_of(given))
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] < RECORD_AT:
            return function(params, *given)
        self._load(params)
        if key not in self._recordings:
            self._recordings[key] = self._recorded(function, given)
        recording = self._recordings[key]
        if recording is None:
            return function(params, *given)
        replay, output, read = recording
        for place, value in zip(read, leaves(given), strict=True):
            place.copy_(value)
        replay()
        return output.clone()

    def _load(self, params: Params) -> None:
        if not self._params:
            self._params = {name: value.clone() for name, value in params.items()}
        elif self._loaded is not params:
            for name, place in self._params.items():
                place.copy_(params[name])
        self._loaded = params

    def _recorded(self, function: Callable[..., Any], given: Any) -> tuple[Replay, Tensor, list[Tensor]] | None:
        try:
            own = change(torch.clone, given)
            replay, output = self._record(lambda: function(self._params, *own))
        except RuntimeError:  # what cannot be recorded, and memory that does not hold it
            return None
        return replay, output, leaves(own)


class OnGpu:
    """Records CUDA graphs that share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Replay, Tensor]:
        with _beside():
            for _ in range(2):  # plans and buffers are made outside the recording
                run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = run()
        return graph.replay, output


@contextmanager
def _beside() -> Iterator[None]:
    """On a stream of its own, as recording asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)
