"""Running what is missing of a task, and reading what there is."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import torch

from benchmarks.harness import Metrics, kept
from benchmarks.headline.cells import PARTS, fast_cell, part_cell, plain_cell
from benchmarks.headline.tables import CELLS, Task
from benchmarks.headline.tasks import Made, Plan, dense_search, make
from ssdtune.study.storage import quiet_optuna

CELL: dict[str, Callable[..., Metrics]] = {
    "plain": plain_cell,
    "fast": fast_cell,
    **{name: partial(part_cell, share=share) for name, share in PARTS.items()},
}
REFERENCE, FACTS = "reference", "task"


def files(work: Path, plan: Plan) -> list[Path]:
    """Where the results of a task are kept, those of its cells after the others."""
    cells = [f"{cell}.{seed}" for seed in range(plan.seeds) for cell in CELLS]
    return [work / plan.name / f"{name}.json" for name in (FACTS, REFERENCE, *cells)]


def run_task(work: Path, plan: Plan, *, seed: int, quick: bool) -> None:
    """Whatever is missing of one task; what is there already is not run again."""
    torch.set_num_threads(1)
    quiet_optuna()
    facts, reference, *cells = files(work, plan)
    with tempfile.TemporaryDirectory() as folder:

        @cache
        def made() -> Made:
            return make(plan, Path(folder), seed)

        kept(facts, lambda: made().facts())
        target = kept(reference, lambda: dense_search(made(), 32 if quick else 256))["reference"]
        for path in cells:
            way, sampler, number = path.stem.split(".")
            if not path.exists():
                most, own = 10 if quick else 50, seed + int(number)
                run = partial(CELL[way], sampler=sampler, target=target, seed=own, most=most)
                found = kept(path, partial(timed, run, made()))
                print(f"{plan.name}: {path.stem}, {found}", file=sys.stderr, flush=True)


def timed(run: Callable[[Made], Metrics], made: Made) -> Metrics:
    """What a cell comes to, with the seconds that measuring it took."""
    started = time.process_time()
    return {**run(made), "core_s": time.process_time() - started}


def core_minutes(work: Path, plans: Sequence[Plan]) -> float:
    """What all results that are there took."""
    paths = [path for plan in plans for path in files(work, plan) if path.exists()]
    return sum(float(json.loads(path.read_text())["core_s"]) for path in paths) / 60


def read_task(work: Path, plan: Plan) -> Task:
    read = {path.stem: json.loads(path.read_text()) for path in files(work, plan)}
    cells = {cell: [read[f"{cell}.{seed}"] for seed in range(plan.seeds)] for cell in CELLS}
    reference = read[REFERENCE]
    return Task(plan.name, reference["reference"], reference["untouched"], read[FACTS], cells)
