"""How time and peak memory of a whole analysis grow with samples, parameters and image size."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

import ssdtune
from benchmarks.fisher.inputs import varnet_task
from benchmarks.harness import ROOT, Metrics, show, table
from ssdtune.device import trim_heap
from ssdtune.fisher.analysis import FisherWarning
from ssdtune.mri.networks.stock import VarNetSizes

MIB = 2**20


class Case(NamedTuple):
    """n slices a set, of size x size pixels, a VarNet, and the memory budget in MiB."""

    n: int
    size: int
    sizes: VarNetSizes
    budget: int
    quick: bool = False


SMALL = VarNetSizes(2, 4, 2, 4, 2)  # 22 040 parameters
CASES = {
    "n16": Case(16, 32, SMALL, 256, quick=True),
    "n64": Case(64, 32, SMALL, 256),
    "n256": Case(256, 32, SMALL, 256, quick=True),
    "n512": Case(512, 32, SMALL, 256),
    "params_0.1M": Case(8, 48, VarNetSizes(1, 8, 3, 4, 2), 256),
    "params_1M": Case(8, 48, VarNetSizes(2, 16, 3, 4, 2), 512, quick=True),
    "params_10M": Case(8, 48, VarNetSizes(4, 18, 4, 4, 2), 2048),
    "params_30M": Case(8, 48, VarNetSizes(12, 18, 4, 8, 4), 5120),
    "size_32": Case(16, 32, SMALL, 512),
    "size_64": Case(16, 64, SMALL, 512, quick=True),
    "size_128": Case(16, 128, SMALL, 512),
    "size_256": Case(16, 256, SMALL, 512),
    "n256_spilled": Case(256, 32, VarNetSizes(2, 4, 3, 4, 2), 128),
    "params_1M_spilled": Case(64, 48, VarNetSizes(2, 16, 3, 4, 2), 256, quick=True),
    "params_10M_spilled": Case(16, 48, VarNetSizes(4, 18, 4, 4, 2), 1024),
}


def growth(options: argparse.Namespace) -> Metrics:
    metrics: Metrics = {}
    rows, shares = [], []
    for name, case in CASES.items():
        if options.quick and not case.quick:
            continue
        command = [sys.executable, "-m", "benchmarks.fisher", "--case", name, "--seed", str(options.seed)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise SystemExit(f"error: case {name} failed, {(done.stderr.strip() or 'killed').splitlines()[-1]}")
        found = json.loads(done.stdout.splitlines()[-1])
        shares.append(found["mib"] / case.budget)
        metrics |= {f"analyse.{name}.s": found["s"], f"analyse.{name}.mib": found["mib"]}
        shown = (found["s"], found["mib"], case.budget, shares[-1])
        rows.append((name, 2 * case.n, f"{found['parameters']:,}", case.size, *map(show, shown), found["kept"]))
    columns = ("case", "slices", "parameters", "pixels", "s", "MiB", "budget", "share", "gradients")
    print("\n".join(table(columns, rows)))
    return metrics | {"memory_over_budget": max(shares)}


def run_case(name: str, seed: int) -> None:
    """One analysis in this process; prints what it took as JSON."""
    warnings.simplefilter("ignore", FisherWarning)
    case = CASES[name]
    ssdtune.analyse(varnet_task(2, 32, VarNetSizes(1, 2, 1, 2, 1), seed))  # loads the libraries
    task = varnet_task(case.n, case.size, case.sizes, seed)
    trim_heap()
    with peak_increase() as increase:
        started = time.perf_counter()
        analysis = ssdtune.analyse(task, memory_budget=case.budget * MIB)
        seconds = time.perf_counter() - started
    kept = " and ".join(sorted(set(analysis.record["rows"].values())))
    found = {"parameters": analysis.layout.parameters, "s": seconds, "mib": increase[0] / MIB, "kept": kept}
    print(json.dumps(found))


@contextmanager
def peak_increase() -> Iterator[list[float]]:
    """By how many resident bytes this process grows within, at most; all its pages count."""
    process, found, stop = psutil.Process(), [0.0], threading.Event()
    before, peak_before = process.memory_info().rss, whole_peak()
    seen = [before]

    def watch() -> None:
        while not stop.wait(0.005):
            seen[0] = max(seen[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield found
    stop.set()
    watcher.join()
    # the system's own record is exact, but does not tell peaks below an earlier one
    found[0] = (whole_peak() if whole_peak() > peak_before else seen[0]) - before


def whole_peak() -> float:
    """Largest resident bytes of this process since it began."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def case_options() -> argparse.Namespace | None:
    """Options of a child process; None in the process that measures."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--seed", type=int, default=0)
    options, _ = parser.parse_known_args()
    return options if options.case else None
