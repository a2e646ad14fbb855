"""Other ways to run the networks than `study run` does: channels-last, compiled, and on a GPU as CUDA graphs.

One batch, as large as a study's, through sensitivity and cascade networks; milliseconds a slice, the shortest of
several runs. A graph is replayed as it is: what copying parameters and slices into it takes is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import torch
from harness import Metrics
from torch import Tensor
from trial_tasks import Case

from ssdtune.mri.quick_unet import unet
from ssdtune.scoring.evaluator import Evaluator

LAST = torch.channels_last


def ways(case: Case, dtype: torch.dtype = torch.float32, *, compiling: bool = True, repeats: int = 7) -> Metrics:
    """``WAY_ms`` a slice, ``compiled_ready_s``: seconds of the first compiled run; ways that fail are left out."""
    evaluator = Evaluator(case.task, dtype=dtype)
    data, network = evaluator.prepared("retain"), evaluator.network
    batch = next(data.batches(0, len(data), evaluator.batch_of))
    plain = network.ready({name: value * 0.99 for name, value in case.task.params.items()})
    last = {n: v.contiguous(memory_format=LAST) if v.dim() == 4 else v for n, v in plain.items()}
    found: Metrics = {}
    for name in ("plainly", "channels_last", *(("compiled",) if compiling else ())):
        params = last if name == "channels_last" else plain

        def run(params: dict[str, Tensor] = params) -> Tensor:
            return network(params, batch.sample, network.maps(params, batch.sample))  # type: ignore[no-any-return]

        try:
            with torch.no_grad(), _networks(_unet(name)):
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


@contextmanager
def _networks(run: Callable[[Sequence[Tensor], Tensor], Tensor]) -> Iterator[None]:
    """Every U-Net runs so meanwhile; what was compiled before is forgotten."""
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as folder, mock.patch("ssdtune.mri.quick.unet", run):
        new = {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        with mock.patch.dict(os.environ, new):
            yield


def _unet(name: str) -> Callable[[Sequence[Tensor], Tensor], Tensor]:
    if name == "channels_last":
        return lambda weights, image: unet(weights, image.contiguous(memory_format=LAST))
    return torch.compile(unet, dynamic=False) if name == "compiled" else unet


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
    return graph.replay  # type: ignore[no-any-return]


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
