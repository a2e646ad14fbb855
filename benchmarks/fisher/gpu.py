"""The paper's VarNet on a GPU."""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from torch.utils.flop_counter import FlopCounterMode

import ssdtune
from benchmarks.fisher.inputs import varnet_task
from benchmarks.harness import Metrics, median_seconds
from ssdtune.device import full_precision
from ssdtune.fisher.analysis import FisherWarning
from ssdtune.mri.networks.stock import VarNetSizes
from ssdtune.task import Task, batches


def paper_varnet(options: argparse.Namespace) -> Metrics:
    """Nothing where ``--device`` is no GPU."""
    if not options.device.startswith("cuda"):
        print("cuda.*: not measured (no GPU)")
        return {}
    found = varnet_analysis(16 if options.quick else 128, 256, VarNetSizes(), options)
    return {f"cuda.{name}": value for name, value in found.items()}


def varnet_analysis(n: int, size: int, sizes: VarNetSizes, options: argparse.Namespace) -> Metrics:
    """The analysis of ``n`` slices a set, ``size`` pixels a side, of a VarNet on the device of the options."""
    warnings.simplefilter("ignore", FisherWarning)
    device, seed = options.device, options.seed
    ssdtune.analyse(varnet_task(2, size, sizes, seed, device=device))  # loads the libraries
    task = varnet_task(n, size, sizes, seed, device=device)
    on_gpu = torch.device(device).type == "cuda"
    matrix_work, rate = flops_a_slice(task), matrix_rate(device, 8192 if on_gpu else 256)
    budget, before = 2.0**30, 0
    if on_gpu:
        budget = 0.75 * torch.cuda.mem_get_info(device)[0]
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    started = time.perf_counter()
    analysis = ssdtune.analyse(task, memory_budget=budget)
    wait(device)
    seconds = time.perf_counter() - started
    gradients = analysis.record["seconds"]["gradients"]
    print(f"{2 * n} slices: {seconds:.1f} s, of which gradients {gradients:.1f} s; {analysis.record['rows']}")
    metrics: Metrics = {
        "parameters": analysis.layout.parameters,
        "analyse_s": seconds,
        "slices_per_s": 2 * n / seconds,
        "gradients_per_s": 2 * n / gradients,
        "budget_gib": budget / 2**30,
        "matrix_tflops": rate / 1e12,
        "matrix_rate_share": matrix_work * 2 * n / seconds / rate,
    }
    if on_gpu:
        metrics["peak_gib"] = (torch.cuda.max_memory_allocated(device) - before) / 2**30
    return metrics


def flops_a_slice(task: Task) -> int:
    """Of the convolutions and matrix products in one slice's loss and its gradient."""
    params = {name: value.clone().requires_grad_() for name, value in task.params.items()}
    batch = next(iter(batches(task.forget, 1, task.device)))
    with FlopCounterMode(display=False) as counter:
        task.loss(task.predict(params, batch.inputs), batch.target).backward()
    found: int = counter.get_total_flops()
    return found


@full_precision()
def matrix_rate(device: str, side: int) -> float:
    """Operations a second of a square product in full float32, as the analysis computes."""
    square = torch.randn(side, side, device=device)

    def product() -> None:
        torch.mm(square, square)
        wait(device)

    return 2 * side**3 / median_seconds(product, 10)


def wait(device: str) -> None:
    """Until a GPU is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
