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
from unittest import mock

import torch
from fastmri.models import Unet
from torch import Tensor

from benchmarks.harness import Metrics
from benchmarks.trial_cost.tasks import Case
from ssdtune.mri.networks import fast_unet as quick_unet
from ssdtune.mri.networks.fast_unet import Params, Unets
from ssdtune.objective.evaluator import Evaluator


def ways(case: Case, dtype: torch.dtype = torch.float32, *, compiling: bool = True, repeats: int = 7) -> Metrics:
    """``WAY_ms`` a slice, ``compiled_ready_s``: seconds of the first compiled run; ways that fail are left out."""
    evaluator = Evaluator(case.task, dtype=dtype)
    data, network = evaluator.prepared("retain"), evaluator.network
    batch = next(data.batches(0, len(data), evaluator.batch_of))
    own = {name: value * 0.99 for name, value in case.task.params.items()}
    found: Metrics = {}
    for name in ("plainly", "channels_last", *(("compiled",) if compiling else ())):
        network.unets = Unets(dtype, _prefixes(case) if name == "channels_last" else ())
        params = network.ready(own)

        def run(params: Params = params) -> Tensor:
            return network(params, batch.sample, network.maps(params, batch.sample))

        try:
            with torch.no_grad(), _compiled() if name == "compiled" else nullcontext():
                ready = _seconds(run)
                found[f"{name}_ms"] = 1e3 * min(_seconds(run) for _ in range(repeats)) / len(batch.places)
                if name == "compiled":
                    found["compiled_ready_s"] = ready
                if case.task.device != "cpu":
                    replay = _graph(run)
                    found[f"{name}_graph_ms"] = 1e3 * min(_seconds(replay) for _ in range(repeats)) / len(batch.places)
        except Exception as reason:  # this machine may have no compiler, say
            print(f"{name}: {type(reason).__name__}: {reason}", file=sys.stderr, flush=True)
    return found


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
