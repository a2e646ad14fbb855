"""A service: nothing lost, scale, proposals at once, start of a worker, hostile inputs.

`postgresql.*`, `sqlite.*`: a study run by workers (`ssdtune worker --watch`) of which one is killed every second and
one told to stop every three, and, with PostgreSQL, whose database is restarted twice: trials that a worker logged as
finished and the storage does not have (`lost`), finished trials that repeat the place of another (`duplicated`),
finished ones (`finished`, the budget if all is well), trials begun (`asked`), 1 if the study's best is not that of
its trials (`best_differs`), workers that ended in any other way than asked (`gave_up`), seconds that SIGTERM took
(`stop_s`). `ray.*`: the same on two Ray machines, see ``cluster.storm``. `fisher_ray.*`: the Fisher analysis on two
Ray cores against one process: the largest relative difference (`rel_err`, goal 1e-6), that of the slopes
(`slope_err`), the share of ideal speed (`efficiency`). `scale.*`: trials that sleep 1 s: trials a second of 1, 2, 4,
8 workers on PostgreSQL and that over the ideal (`efficiency_8`, goal 0.9); median milliseconds of a trial in the
storage with 8 workers in a study of 5,000 trials (`storage_ms`, goal 50), of that the worker's own CPU time
(`storage_cpu_ms`; the rest it waits for the server or for a core), the server's CPU time (`server_cpu_ms`),
statements and ends of transactions (`statements`), and milliseconds from the end of a trial to the next one's setting
(`search_ms`). `proposals.regret_ratio`: regret of TPE after 30 trials, 4 workers at once over 1, on recorded tasks
(goal 1.2), with its 95 % interval over tasks and seeds (`_low`, `_high`); `proposals.smooth_*`: on a smooth task of
two knobs that both methods nearly solve, through the whole loop. `worker_start_s`: a worker from nothing to
its first trial, caches warm, median (goal 10). `hostile.tried`, `hostile.bad`: broken and hostile inputs to the
command line, and those that did not end in one line, with the right exit code, leaving nothing behind.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from benchmarks.harness import Metrics, Parts, main_of_parts
from benchmarks.service import cluster, fisher_ray, hostile, postgresql, proposals, scale
from benchmarks.service.storm import storm


def _postgresql(options: argparse.Namespace) -> Metrics:
    with postgresql.running() as server, tempfile.TemporaryDirectory() as folder:
        trials, workers = (120, 4) if options.quick else (1000, 8)
        found = storm(
            server.url, Path(folder), seed=options.seed, restart=server.restart, trials=trials, workers=workers
        )
    return {f"postgresql.{name}": value for name, value in found.items()}


def _sqlite(options: argparse.Namespace) -> Metrics:
    with tempfile.TemporaryDirectory() as folder:
        trials, workers = (60, 2) if options.quick else (1000, 4)
        found = storm(f"sqlite:///{folder}/studies.db", Path(folder), seed=options.seed, trials=trials, workers=workers)
    return {f"sqlite.{name}": value for name, value in found.items()}


def _ray(options: argparse.Namespace) -> Metrics:
    with tempfile.TemporaryDirectory() as folder:
        trials = 60 if options.quick else 1000
        found = cluster.storm(f"sqlite:///{folder}/studies.db", trials, 0.05, options.seed)
    return {f"ray.{name}": value for name, value in found.items()}


def _fisher_ray(options: argparse.Namespace) -> Metrics:
    slices, size = (16, 64) if options.quick else (48, 96)
    found = fisher_ray.fisher_ray(slices, size, options.seed)
    return {f"fisher_ray.{name}": value for name, value in found.items()}


def _scale(options: argparse.Namespace) -> Metrics:
    workers, each = ((1, 8), 8) if options.quick else ((1, 2, 4, 8), 20)
    with ExitStack() as stack:
        found = scale.scale(_servers(stack), workers, each)
    return {f"scale.{name}": value for name, value in found.items()}


def _servers(stack: ExitStack) -> Iterator[str]:
    while True:
        yield stack.enter_context(postgresql.running()).url


def _storage(options: argparse.Namespace) -> Metrics:
    before, trials = (500, 32) if options.quick else (5000, 128)
    with postgresql.running() as server:
        found = scale.storage_ms(server.url, before, 8, trials, server.process.pid)
    return {f"scale.{name}": value for name, value in found.items()}


def _proposals(options: argparse.Namespace) -> Metrics:
    tasks, seeds = (16, 2) if options.quick else (48, 3)
    found = proposals.proposals(tasks, seeds, options.seed) | proposals.smooth(5 * seeds, options.seed)
    return {f"proposals.{name}": value for name, value in found.items()}


def _start(options: argparse.Namespace) -> Metrics:
    """Whole processes on a study of files; the first run warms the caches."""
    times = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hostile.make_sound(folder)
        storage = f"sqlite:///{folder}/studies.db"
        environment = {**os.environ, "SSDTUNE_STORAGE": storage, "SSDTUNE_CACHE": str(folder / "cache")}
        ssdtune = [sys.executable, "-c", "from ssdtune.cli import main; main()"]
        create = [*ssdtune, "study", "create", "study.toml", "--trials", "1", "--name"]
        for number in range(3 if options.quick else 6):
            subprocess.run([*create, f"s{number}"], cwd=folder, env=environment, check=True, capture_output=True)
            started = time.time()
            done = subprocess.run(
                [*ssdtune, "worker", "--log-json"],
                cwd=folder,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )
            events = [json.loads(line) for line in done.stderr.splitlines()]
            (first,) = [event for event in events if event["event"] == "trial"]
            times.append(_seconds(first["time"]) - started)
    return {"worker_start_s": statistics.median(times[1:])}


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _hostile(options: argparse.Namespace) -> Metrics:
    with tempfile.TemporaryDirectory() as folder:
        tried, bad = hostile.tried(40 if options.quick else 200, options.seed, Path(folder))
    print(*bad, sep="\n", file=sys.stderr)
    return {"hostile.tried": tried, "hostile.bad": len(bad)}


PARTS: Parts = {
    "postgresql": _postgresql,
    "sqlite": _sqlite,
    "ray": _ray,
    "fisher_ray": _fisher_ray,
    "scale": _scale,
    "storage": _storage,
    "proposals": _proposals,
    "start": _start,
    "hostile": _hostile,
}

if __name__ == "__main__":
    main_of_parts(__doc__ or "", PARTS)
