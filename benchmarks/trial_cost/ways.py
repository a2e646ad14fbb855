"""Ways to run the networks: plainly, channels-last, compiled, and on a GPU each of them as a CUDA graph.

One batch, as large as a study's, through sensitivity and cascade networks; milliseconds a slice, the shortest of
several runs. A graph is replayed as it is: what copying parameters and slices into it takes is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from fastmri.models import Unet
from torch import Tensor

from benchmarks.harness import Metrics
from benchmarks.trial_cost.tasks import Case
from ssdtune.mri.networks import fast_unet as quick_unet
from ssdtune.mri.networks.fast_unet import Unets
from ssdtune.objective.evaluator import Evaluator

WAYS = ("plainly", "channels_last", "compiled")


def ways(case: Case, dtype: torch.dtype = torch.float32, *, compiling: bool = True) -> Metrics:
    """The figures of all ways; those that fail are left out, and said."""
    found: Metrics = {}
    for name in WAYS if compiling else WAYS[:2]:
        try:
            found.update(one_way(case, dtype, name))
        except Exception as reason:  # this machine may have no compiler, say
            print(f"{name}: {type(reason).__name__}: {reason}", file=sys.stderr, flush=True)
    return found


def one_way(case: Case, dtype: torch.dtype, name: str, repeats: int = 7) -> Iterator[tuple[str, float]]:
    """``NAME_ms`` a slice, on a GPU ``NAME_graph_ms``, and ``compiled_ready_s``: seconds of the first compiled run."""
    evaluator = Evaluator(case.task, dtype=dtype)
    data = evaluator.prepared("retain")
    network: Any = evaluator.network
    batch = next(data.batches(0, len(data), evaluator.batch_of))
    network.unets = Unets(dtype, _prefixes(case) if name == "channels_last" else ())
    params = network.ready({key: value * 0.99 for key, value in case.task.params.items()})

    def run() -> Tensor:
        found: Tensor = network(params, batch.sample, network.maps(params, batch.sample))
        return found

    with torch.no_grad(), _compiled() if name == "compiled" else nullcontext():
        ready = _seconds(run)
        yield f"{name}_ms", 1e3 * min(_seconds(run) for _ in range(repeats)) / len(batch.places)
        if name == "compiled":
            yield "compiled_ready_s", ready
        if torch.device(case.task.device).type == "cuda":
            replay = _graph(run)
            yield f"{name}_graph_ms", 1e3 * min(_seconds(replay) for _ in range(repeats)) / len(batch.places)


def _prefixes(case: Case) -> list[str]:
    """Those of the cascades' networks."""
    names = [f"{name}." for name, net in case.task.model.named_modules() if isinstance(net, Unet)]
    return [name for name in names if "sens_net" not in name]


@contextmanager
def _compiled() -> Iterator[None]:
    """Every U-Net is compiled meanwhile, as if it never had been."""
    torch.compiler.reset()
    compiled = mock.patch.object(quick_unet, "unet", torch.compile(quick_unet.unet, dynamic=False))
    with tempfile.TemporaryDirectory() as folder:
        kept_there = mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": folder})
        with kept_there, compiled:
            yield


def _graph(run: Callable[[], Tensor]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
