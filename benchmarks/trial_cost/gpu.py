"""The cost of a trial on a GPU: slices of the paper's VarNet (12 cascades, 18 channels), and the study of the others.

`cuda.slice_speedup`: the smaller of the ratios of slices/s on 4-coil 256x256 and 15-coil 640x368 slices, an evaluator
as it ships (batched, float32) over the plain way (float32, batch 1, eager); `cuda.slice_speedup_bfloat16` likewise,
where the quality of no slice moves by 1e-3. `cuda.CASE.ways_FORMAT.*`: what other ways to run the networks give
(ways.py); compiling on the first case alone. `cuda.CASE.flops_share` and `cuda.CASE.bandwidth_share`: operations of
convolutions and products (counted by torch) and bytes of activations (one write and one read of every convolution's
output) a second, over the peak rates that a large float32 matrix product and a large copy reach in the same run. The
profile says which kernels the rest goes to. `cuda.study_speedup` and what goes with it: as on a CPU. What is known so
far is printed after each part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Metrics
from benchmarks.trial_cost.growth import random_case
from benchmarks.trial_cost.plain import plain_slice
from benchmarks.trial_cost.study import whole_study
from benchmarks.trial_cost.tasks import MAIN, QUICK, Case, Sizes, make_case
from benchmarks.trial_cost.ways import ways
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.precision import choose_precision
from ssdtune.study.storage import quiet_optuna

CASES = {
    "4coil_256x256": (Sizes(pixels=256, coils=4, cascades=12, channels=18, pools=4), 256),
    "15coil_640x368": (Sizes(pixels=368, coils=15, cascades=12, channels=18, pools=4), 640),
}


def measure_gpu(options: argparse.Namespace) -> Metrics:
    quiet_optuna()
    peak_flops, peak_bytes = peak_rates(options.device)
    metrics: Metrics = {"cuda.peak_tflops": peak_flops / 1e12, "cuda.peak_gbytes": peak_bytes / 1e9}
    ratios: dict[str, list[float]] = {"slice_speedup": [], "slice_speedup_bfloat16": []}
    for number, (name, (sizes, height)) in enumerate(CASES.items()):
        count = 8 if options.quick else 32
        case = random_case(sizes, count, options.device, height, sens=(8, 4))
        found = one_case(case, count, compiling=number == 0)
        ratios["slice_speedup"].append(found["fast_slices_s"] / found["plain_slices_s"])
        if "bfloat16_slices_s" in found:
            ratios["slice_speedup_bfloat16"].append(found["bfloat16_slices_s"] / found["plain_slices_s"])
        metrics |= {f"cuda.{name}.{key}": value for key, value in found.items()}
        metrics[f"cuda.{name}.flops_share"] = found["gflops_a_slice"] * 1e9 * found["fast_slices_s"] / peak_flops
        metrics[f"cuda.{name}.bandwidth_share"] = found["gbytes_a_slice"] * 1e9 * found["fast_slices_s"] / peak_bytes
        print(metrics, file=sys.stderr, flush=True)
    metrics |= {f"cuda.{name}": min(each) for name, each in ratios.items() if each}
    with tempfile.TemporaryDirectory() as folder:
        sizes = QUICK if options.quick else MAIN
        case = make_case(Path(folder), sizes, options.seed, device=options.device)
        study, _, _ = whole_study(case, Path(folder), options, 12 if options.quick else 30)
    metrics |= {f"cuda.{key}": value for key, value in study.items()}
    return metrics


def one_case(case: Case, count: int, compiling: bool) -> Metrics:
    """Slices a second both ways, what other ways give, and what a slice is made of."""
    params = {name: value * 0.99 for name, value in case.task.params.items()}
    with torch.no_grad():
        plain = seconds(lambda: [plain_slice(case, case.task.model, case.task.retain[i]) for i in range(4)]) / 4
    evaluator = Evaluator(case.task, say=print)
    with FlopCounterMode(display=False) as counter:
        evaluator.start(params).extend("retain", 1)

    def fast() -> None:
        evaluator.start(params).extend("retain", count)

    quick = seconds(fast) / count
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        fast()
    print(found.key_averages().table(sort_by="self_device_time_total", row_limit=12, max_name_column_width=60))
    metrics: Metrics = {
        "plain_slices_s": 1 / plain,
        "fast_slices_s": 1 / quick,
        "batch_size": evaluator.batch_of(evaluator.prepared("retain").groups[0].values),
        "gflops_a_slice": counter.get_total_flops() / 1e9,
        "gbytes_a_slice": bytes_of_convolutions(case, evaluator.dtype) / 1e9,
    }
    choose_precision(evaluator, "bfloat16")
    if evaluator.dtype == torch.bfloat16:
        metrics["bfloat16_slices_s"] = count / seconds(fast)
    for dtype in (torch.float32, torch.bfloat16):
        others = ways(case, dtype, compiling=compiling)
        metrics |= {f"ways_{str(dtype).removeprefix('torch.')}.{way}": value for way, value in others.items()}
    return metrics


def bytes_of_convolutions(case: Case, dtype: torch.dtype) -> float:
    """One write and one read of every convolution's output, for one slice."""
    total, kinds = [0], (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    hooks = [
        module.register_forward_hook(lambda _, __, output: total.append(output.numel()))
        for module in case.task.model.modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        inputs, _ = case.task.retain[0]
        case.task.model(*(value[None].to(case.task.device) for value in inputs))
    for hook in hooks:
        hook.remove()
    return 2.0 * sum(total) * torch.finfo(dtype).bits / 8


def peak_rates(device: str, size: int = 8192) -> tuple[float, float]:
    """(flop/s of a float32 matrix product, bytes/s of a copy, read and write both counted)."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    flops = 2 * size**3 / seconds(lambda: a @ b)
    source = torch.empty(2**28, device=device)
    copied = torch.empty_like(source)
    return flops, 2 * source.nbytes / seconds(lambda: copied.copy_(source))


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds of a run on the GPU after two that warm up."""
    times = []
    for repeat in range(repeats + 2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if repeat >= 2:
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
