"""`ssdtune study compare` of eight methods on the demo's task: how long a user waits for it, and what it says.

The demo's scans and models are made once, in `--work`; then the command runs as a user would type it, two methods at a
time. What is measured is its wall time, Fisher analysis, pictures and page included; of a run that was stopped and
went on, all parts together. Goal: less than 20 minutes on 2 cores. `s.METHOD` is the best feasible score of 20 trials,
`s_equal_cost.METHOD` that within the slice passes of the cheapest study.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Metrics, main, table
from ssdtune.cli.demo import STEPS, prepare

METHODS = ("spectral", "ssd", "ssd-repair", "ft", "ng", "ga-l1-ft", "nl-ft", "bad-teacher")
QUICK = ("spectral", "ssd", "ft", "ng")
MADE = 3  # steps of the demo that make its data and models


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build/comparison", metavar="DIR", help="of task and studies"
    )
    parser.add_argument("--trials", type=int, help="of each method (default 20)")


def ssdtune(*words: str, folder: Path) -> str:
    """What a command prints, run in a folder.

    Raises CalledProcessError: it failed.
    """
    code = "from ssdtune.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SSDTUNE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def make(folder: Path) -> None:
    """The demo's study file, scans and models."""
    prepare(folder)
    for _, commands in STEPS[:MADE]:
        for command in commands:
            ssdtune(*command.format(out=".").split(), folder=folder)


def timed(folder: Path, name: str, *words: str) -> tuple[dict[str, Any], float]:
    """(what a command prints as JSON, its wall time with that of the parts of it that were stopped before)"""
    kept = folder / f"{name}.txt"
    started = time.perf_counter()
    try:
        printed = ssdtune(*words, "--json", folder=folder)
    finally:
        with kept.open("a") as file:
            file.write(f"{time.perf_counter() - started}\n")
    return json.loads(printed), sum(map(float, kept.read_text().split()))


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    folder = chosen.work.resolve() / "demo"  # beside the notes of the harness: `prepare` wants a folder of its own
    if not (folder / "oracle.pt").exists():
        make(folder)
    methods, trials = (QUICK, 4) if chosen.quick else (METHODS, 20)
    trials = chosen.trials or trials
    name = f"compare{len(methods)}x{trials}"
    words = ["study", "compare", "study.toml", "--methods", ",".join(methods), "--trials", str(trials), "--name", name]
    found, seconds = timed(folder, name, *words, "--jobs", "2", "--device", chosen.device)
    rows, metrics = [], {"minutes": seconds / 60, "methods": len(methods), "trials": trials}
    for label, row in found["methods"].items():
        metrics |= {f"s.{label}": row["s"], f"s_equal_cost.{label}": row["s_equal_cost"]}
        values = [f"{row[key]:.3f}" for key in ("s", "s_equal_cost", "retained", "remembered", "oracle_distance")]
        rows.append([label, *values, f"{row['cost']:.0f}", f"{row['seconds']:.0f}"])
    head = ["method", f"s at {trials} trials", f"s at {found['budget']['cost']:.0f} passes"]
    lines += [f"{len(methods)} methods, {trials} trials each: {seconds / 60:.1f} minutes.", ""]
    lines += table([*head, "retained", "remembered", "to oracle", "slice passes", "seconds"], rows)
    return metrics


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
