"""Slices a second of the paper's VarNet, in all the ways there are to run it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fisher.gpu import wait
from benchmarks.trial_cost.growth import random_case
from benchmarks.trial_cost.plain import plain_slice
from benchmarks.trial_cost.tasks import Case, Sizes
from benchmarks.trial_cost.ways import WAYS, one_way
from ssdtune.mri.networks.mixed import mixed_precision
from ssdtune.objective.evaluator import Evaluator
from ssdtune.task import batches

if TYPE_CHECKING:
    from benchmarks.gpu.parts import Figures, Step

PAPER = Sizes(coils=15, cascades=12, channels=18, pools=4)
TINY = Sizes(pixels=32, coils=3, cascades=2, channels=4, pools=2)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def steps(options: argparse.Namespace, pixels: int) -> Iterator[Step]:
    """``pixels`` a side; on a CPU tiny ones, plainly and channels-last alone."""
    on_gpu = options.device.startswith("cuda")
    sizes = Sizes(**{**vars(PAPER), "pixels": pixels}) if on_gpu else TINY
    count = 4 if not on_gpu else 12 if options.quick else 32
    case = random_case(sizes, count, options.device, sens=(8, 4) if on_gpu else (4, 2))
    yield "parameters", lambda: [("parameters", sum(value.numel() for value in case.task.params.values()))]
    yield "plain", partial(_plain, case)
    evaluator = Evaluator(case.task, say=print)
    yield "evaluator", partial(_evaluator, case, evaluator, count)
    yield "bfloat16.evaluator", partial(_bfloat16, case, evaluator, count)
    yield "peak", partial(_shares, case, evaluator, 8192 if on_gpu else 256)
    for name in DTYPES:
        yield f"train.{name}", partial(_training, case, name)
    for way in WAYS if on_gpu else WAYS[:2]:  # last, as a compilation may take all the time that is left
        for name, dtype in DTYPES.items():
            yield f"{name}.{way}", partial(_way, case, name, dtype, way)


def _plain(case: Case) -> Figures:
    samples = [case.task.retain[index] for index in range(min(4, len(case.task.retain)))]
    with torch.no_grad():
        taken = seconds(
            lambda: [plain_slice(case, case.task.model, sample) for sample in samples], str(case.task.device)
        )
    yield "plain_slices_s", len(samples) / taken


def _evaluator(case: Case, evaluator: Evaluator, count: int) -> Figures:
    yield "evaluator_slices_s", count / seconds(partial(_measured, case, evaluator, count), str(case.task.device))
    yield "batch_size", evaluator.batch_of(evaluator.prepared("retain").groups[0].values)


def _bfloat16(case: Case, evaluator: Evaluator, count: int) -> Figures:
    try:
        exact = _images(case, evaluator)
        evaluator.compute_in(torch.bfloat16)
        yield "bfloat16.image_rel_diff", ((_images(case, evaluator) - exact).abs().max() / exact.abs().max()).item()
        taken = seconds(partial(_measured, case, evaluator, count), str(case.task.device))
        yield "bfloat16.evaluator_slices_s", count / taken
    finally:
        evaluator.compute_in(torch.float32)


def _shares(case: Case, evaluator: Evaluator, size: int) -> Figures:
    """How near the evaluator comes to what the device can do."""
    flops, rate = peak_rates(str(case.task.device), size)
    yield "peak_tflops", flops / 1e12
    yield "peak_gbytes", rate / 1e9
    with FlopCounterMode(display=False) as counter:
        _measured(case, evaluator, 1)
    work, moved = counter.get_total_flops(), bytes_of_convolutions(case)
    taken = seconds(partial(_measured, case, evaluator, len(case.task.retain)), str(case.task.device))
    slices_s = len(case.task.retain) / taken
    yield "gflops_a_slice", work / 1e9
    yield "gbytes_a_slice", moved / 1e9
    yield "flops_share", work * slices_s / flops
    yield "bandwidth_share", moved * slices_s / rate


def _way(case: Case, name: str, dtype: torch.dtype, way: str) -> Figures:
    for key, value in one_way(case, dtype, way):
        found = (key.removesuffix("_ms") + "_slices_s", 1e3 / value) if key.endswith("_ms") else (key, value)
        yield f"{name}.{found[0]}", found[1]


def _training(case: Case, precision: str) -> Figures:
    model = case.task.twin("train")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    batch = next(iter(batches([case.task.retain[0]], 1, str(case.task.device))))

    def step() -> None:
        optimizer.zero_grad()
        case.task.loss(model(*batch.inputs), batch.target).backward()
        optimizer.step()

    with mixed_precision(model, precision):
        yield f"train.{precision}_slices_s", 1 / seconds(step, str(case.task.device))


def _measured(case: Case, evaluator: Evaluator, count: int) -> None:
    params = {name: value * 0.99 for name, value in case.task.params.items()}  # so that no maps are reused
    evaluator.start(params).extend("retain", count)


def _images(case: Case, evaluator: Evaluator) -> torch.Tensor:
    """Of the first batch."""
    data, network = evaluator.prepared("retain"), evaluator.network
    batch = next(data.batches(0, len(data), evaluator.batch_of))
    params = network.ready(case.task.params)
    with torch.no_grad():
        output: torch.Tensor = network(params, batch.sample, network.maps(params, batch.sample))
    return output


def bytes_of_convolutions(case: Case) -> float:
    """One write and one read of every convolution's output in float32, for one slice."""
    total, kinds = [0], (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    hooks = [
        module.register_forward_hook(lambda _, __, output: total.append(output.numel()))
        for module in case.task.model.modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        inputs, _ = case.task.retain[0]
        case.task.model(*(value[None].to(str(case.task.device)) for value in inputs))
    for hook in hooks:
        hook.remove()
    return 8.0 * sum(total)


def peak_rates(device: str, size: int) -> tuple[float, float]:
    """(flop/s of a float32 matrix product, bytes/s of a copy, read and write both counted)."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    flops = 2 * size**3 / seconds(lambda: a @ b, device)
    source = torch.empty(4 * size**2, device=device)
    copied = torch.empty_like(source)
    return flops, 2 * source.nbytes / seconds(lambda: copied.copy_(source), device)


def seconds(run: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Median seconds of a run on a device after two that warm up."""
    times = []
    for repeat in range(repeats + 2):
        wait(device)
        started = time.perf_counter()
        run()
        wait(device)
        if repeat >= 2:
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
