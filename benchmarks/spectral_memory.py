"""Memory of the spectral update: peak beyond what a process holds before, for 30 million parameters.

256 retain and 64 forget samples of a perceptron (its activations are small: what is measured is parameter-sized), whose
gradient rows do not fit. `full`: rows on the disk, the metric applied once. `leading`: the method as it is, which keeps
as many leading eigenvectors of the retain Fisher as fit, and makes one update. Both within the budget, 4 GiB (--quick:
as much per parameter, for 1.5 million). `rank_error`: |d_k - d| / |d| between the forms at mu = 0.4, w_r = 3.6;
`missed`: share of the trace of F_r beyond rank k. `plane_ms`: both losses' predicted changes over 64 x 64 (mu, eta),
512 samples a set, from matrices of sample size; the median of 20.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import timeit
from collections import deque
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Metrics, main

LIBRARIES = 2**25  # bytes of a budget that do not grow with the model
BYTES_A_PARAMETER = (4 * 2**30 - LIBRARIES) / 30e6
FORMS = ("full", "leading")


def no_analysis() -> Any:
    """``spectral`` asks for none."""
    raise AssertionError("an analysis was asked for")


def measure(options: argparse.Namespace) -> Metrics:
    hidden, retain, forget = (2_000, 64, 16) if options.quick else (40_000, 256, 64)
    metrics: Metrics = {}
    for form in FORMS:
        command = [sys.executable, "-m", "benchmarks.spectral_memory", "--part", form]
        numbers = ["--hidden", hidden, "--retain", retain, "--forget", forget, "--seed", options.seed]
        done = subprocess.run([*command, *map(str, numbers)], capture_output=True, text=True, cwd=ROOT, env=os.environ)
        if done.returncode:
            raise SystemExit(done.stderr)
        metrics |= {f"{form}.{name}": value for name, value in json.loads(done.stdout.splitlines()[-1]).items()}
    return {**metrics, "plane_ms": plane_ms(512, options.seed)}


def plane_ms(samples: int, seed: int) -> float:
    """Milliseconds for a plane of two sets of so many samples."""
    from ssdtune.fisher.response import SampleSpace
    from ssdtune.fisher.spectrum import spectrum_of_gram

    rows = np.random.default_rng(seed).normal(size=(2 * samples + 2, 64))
    gram, own = rows @ rows.T, slice(samples, 2 * samples)
    space = SampleSpace(gram, gram, samples, samples, 1.0, spectrum_of_gram(gram[own, own]), samples)
    mu, eta = np.geomspace(1e-3, 10, 64), np.geomspace(1e-3, 1, 64)
    return 1e3 * statistics.median(timeit.repeat(lambda: space.plane(mu, eta, 3.6), number=1, repeat=20))


def run_part(form: str, hidden: int, retain: int, forget: int, seed: int) -> Metrics:
    """Prepare one form in this process, use it once, and say what that took."""
    import torch
    from torch import nn

    from ssdtune.fisher.metric import spectral_metric
    from ssdtune.progress import silent
    from ssdtune.task import Task
    from ssdtune.unlearning.spectral import Spectral
    from ssdtune.unlearning.spectral_update import SpectralOptions

    torch.set_num_threads(1)
    torch.manual_seed(seed)

    def make(inputs: int, width: int, outputs: int, retain: int, forget: int) -> Task:
        def samples(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
            return [(torch.randn(inputs), torch.randn(outputs)) for _ in range(number)]

        return Task(
            model=nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs)),
            loss=lambda output, target: (output - target).square().mean(),
            retain=samples(retain),
            forget=samples(forget),
            quality=lambda output, target: 1 - (output - target).abs().mean(-1),
        )

    spectral_metric(make(5, 4, 3, 3, 3))  # libraries are loaded
    task = make(500, hidden, 250, retain, forget)
    size = sum(value.numel() for value in task.params.values())
    budget = LIBRARIES + BYTES_A_PARAMETER * size
    before = peak()
    if form == "full":
        metric, space = spectral_metric(task, memory_budget=budget, reduce=False)
        prepared = peak()
        metric.apply(metric.means[0], 0.4)
    else:
        options = SpectralOptions(steps=1, memory_budget_gib=budget / 2**30)
        unlearner = Spectral().prepare(task, options, analyse=no_analysis, track=silent)
        metric, space, prepared = unlearner.metric, unlearner.space, peak()
        deque(unlearner({"mu": 0.4, "w_r": 3.6, "eta": 0.05}, 0), maxlen=1)
    missed, error = space.rank_error(metric.rank, [0.4], 3.6)
    return {
        "parameters": size,
        "budget_mib": budget / 2**20,
        "prepare_mib": prepared - before,
        "used_mib": peak() - before,
        "rank": metric.rank,
        "missed": missed,
        "rank_error": float(error[0]),
    }


def peak() -> float:
    """Peak resident MiB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def part_options() -> argparse.Namespace | None:
    """Options of a child process; None in the process that measures."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--part", choices=FORMS)
    for name in ("hidden", "retain", "forget", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    options, _ = parser.parse_known_args()
    return options if options.part else None


if __name__ == "__main__":
    if chosen := part_options():
        print(json.dumps(run_part(chosen.part, chosen.hidden, chosen.retain, chosen.forget, chosen.seed)))
    else:
        main(__doc__ or "", measure)
