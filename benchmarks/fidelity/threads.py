"""How near the command line's choice of threads is to the best one."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

import ssdtune
from benchmarks.harness import Metrics
from benchmarks.trial_cost.growth import random_case
from benchmarks.trial_cost.tasks import Sizes
from ssdtune.cli.computing import work_of
from ssdtune.device import fewest_good_threads, set_threads, thread_choices, time_threads
from ssdtune.objective.evaluator import Evaluator
from ssdtune.task import Task

MODELS = {  # sizes, sensitivity net, slices
    "10k": (Sizes(pixels=32, cascades=1, channels=4, pools=2), (4, 2), 8),
    "40k": (Sizes(pixels=64, cascades=2, channels=4, pools=2), (4, 2), 8),
    "600k": (Sizes(pixels=96, cascades=2, channels=8, pools=3), (4, 2), 4),
    "30m": (Sizes(pixels=64, cascades=12, channels=18, pools=4), (8, 4), 1),
}
NEIGHBOUR = "import numpy as np\na = np.ones((600, 600))\nwhile True:\n    a @ a"
ROUNDS = 3


def threads(options: argparse.Namespace) -> Metrics:
    """The ratio of every case, and the worst."""
    found: Metrics = {}
    before = torch.get_num_threads()
    try:
        for name, (sizes, sens, count) in MODELS.items():
            if options.quick and name == "30m":
                continue
            task = random_case(sizes, count, options.device, sens=sens).task
            parameters = sum(value.numel() for value in task.params.values())
            for state in ("idle", "busy"):
                with neighbour(state == "busy"):
                    torch.set_num_threads(before)
                    started = time.perf_counter()
                    chosen = fewest_good_threads(time_threads(work_of(task)))
                    took = time.perf_counter() - started
                    for what, work in workloads(task).items():
                        times = alternate(work)
                        found[f"threads.{name}.{state}.{what}_ratio"] = times[chosen] / min(times.values())
                        words = ", ".join(f"{number}: {each:.3g} s" for number, each in times.items())
                        print(f"{name} ({parameters:,}), {state}, {what}: {words}; chose {chosen} in {took:.1f} s")
    finally:
        set_threads(before)
    return found | {"threads.worst_ratio": max(found.values())}


def workloads(task: Task) -> dict[str, Callable[[], object]]:
    """What a study does over and over: a trial's evaluation, and the gradients of the analysis."""
    evaluator = Evaluator(task)
    params = {name: 0.99 * value for name, value in task.params.items()}
    small = sum(value.numel() for value in params.values()) < 5e6
    return {
        "trial": lambda: evaluator.start(params).finish(),
        "gradients": (lambda: ssdtune.analyse(task)) if small else work_of(task),
    }


def alternate(work: Callable[[], object]) -> dict[int, float]:
    """Median seconds of whole work with each choice, which take turns."""
    times: dict[int, list[float]] = {number: [] for number in thread_choices()}
    for turn in range(ROUNDS + 1):
        for number, taken in times.items():
            set_threads(number)
            started = time.perf_counter()
            work()
            if turn:
                taken.append(time.perf_counter() - started)
    return {number: statistics.median(taken) for number, taken in times.items()}


@contextmanager
def neighbour(there: bool) -> Iterator[None]:
    """Another process that keeps the machine's cores busy with products of matrices."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if there else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()
