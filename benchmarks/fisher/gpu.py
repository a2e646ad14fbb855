"""The paper's VarNet on a GPU."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import torch
from torch.utils.flop_counter import FlopCounterMode

import ssdtune
from benchmarks.fisher.inputs import varnet_task
from benchmarks.harness import Metrics
from ssdtune.fisher.analysis import FisherWarning
from ssdtune.mri.networks.stock import VarNetSizes
from ssdtune.task import Task, batches


def paper_varnet(options: argparse.Namespace) -> Metrics:
    """Nothing where ``--device`` is no GPU."""
    if not options.device.startswith("cuda"):
        print("cuda.*: not measured (no GPU)")
        return {}
    warnings.simplefilter("ignore", FisherWarning)
    n = 16 if options.quick else 128
    ssdtune.analyse(varnet_task(2, 256, VarNetSizes(), options.seed, device=options.device))  # loads the libraries
    task = varnet_task(n, 256, VarNetSizes(), options.seed, device=options.device)
    matrix_work, rate = flops_a_slice(task), matrix_rate(options.device)
    budget = 0.75 * torch.cuda.mem_get_info(options.device)[0]
    torch.cuda.reset_peak_memory_stats(options.device)
    before = torch.cuda.memory_allocated(options.device)
    started = time.perf_counter()
    analysis = ssdtune.analyse(task, memory_budget=budget)
    torch.cuda.synchronize(options.device)
    seconds = time.perf_counter() - started
    gradients = analysis.record["seconds"]["gradients"]
    print(f"{2 * n} slices: {seconds:.1f} s, of which gradients {gradients:.1f} s; {analysis.record['rows']}")
    return {
        "cuda.parameters": analysis.layout.parameters,
        "cuda.analyse_s": seconds,
        "cuda.slices_per_s": 2 * n / seconds,
        "cuda.gradients_per_s": 2 * n / gradients,
        "cuda.peak_gib": (torch.cuda.max_memory_allocated(options.device) - before) / 2**30,
        "cuda.budget_gib": budget / 2**30,
        "cuda.matrix_tflops": rate / 1e12,
        "cuda.matrix_rate_share": matrix_work * 2 * n / seconds / rate,
    }


def flops_a_slice(task: Task) -> int:
    """Of the convolutions and matrix products in one slice's loss and its gradient."""
    params = {name: value.clone().requires_grad_() for name, value in task.params.items()}
    batch = next(iter(batches(task.forget, 1, task.device)))
    with FlopCounterMode(display=False) as counter:
        task.loss(task.predict(params, batch.inputs), batch.target).backward()
    return counter.get_total_flops()


def matrix_rate(device: str, side: int = 8192) -> float:
    """Operations a second of a square product in the precision that convolutions use, median of 10."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    square, times = torch.randn(side, side, device=device), []
    for _ in range(12):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        torch.mm(square, square)
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * side**3 / statistics.median(times[2:])
