"""Auto against every single method at the same cost.

Each of the methods that `auto` chooses from has its own study of C slice passes, and so has `auto`, everything billed.
A gap is the best feasible s of a single method within C, minus that of `auto`; negative where `auto` is ahead.
`auto.gap_to_best` is the median over tasks of the gap to the method that is best on the task, which nobody knows
beforehand; `auto.gap_to_best_fixed` that to the method of the highest mean over these tasks. All studies have the same
sampler (TPE) and seed. Results are kept task by task in `--work`: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from benchmarks.harness import ROOT, Metrics, kept, main, table
from benchmarks.outcome.runs import say
from benchmarks.outcome.tasks import CASES, Case, make_task
from ssdtune.fisher.analysis import FisherWarning, analyse
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import silent
from ssdtune.report.comparison import read_run
from ssdtune.report.view import read_view
from ssdtune.study.compare import Budget, Rival, run_rivals
from ssdtune.study.create import measure_record, write_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.studyfile import SearchSection
from ssdtune.unlearning.methods import choose_method

QUICK = ("mri-014-1", "mri-020-1", "mri-029-1")
TASKS = (*QUICK, "mri-022-1", "mri-012-1", "mri-030-3", "mri-014-2", "mri-022-2", "real-ghosting")
AUTO = "auto"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", nargs="+", metavar="KEY", help="those run (default: nine small ones)")
    parser.add_argument("--cost", type=float, help="slice passes of a study (default 3000, about 20 trials)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/auto", metavar="DIR", help="of the results")


def run_case(case: Case, cost: float, seed: int, device: str) -> dict[str, float]:
    """Best feasible s within ``cost`` of every method and of auto, by name."""
    task = make_task(case, 0, device)
    asked = choose_method({"name": AUTO, "cost": cost})
    chosen = {name: choose_method({"name": name}) for name in asked.options.methods} | {AUTO: asked}  # type: ignore[attr-defined]
    search = SearchSection(sampler="tpe", trials=1000, seed=seed)
    common = measure_record(task, method=asked.section(), search=search)
    evaluator, found = Evaluator(task), {}

    @cache
    def analysis() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FisherWarning)  # few samples are the point of many recipes
            return analyse(task)

    for name, each in chosen.items():
        rival = Rival(name, seed, "tpe", each)
        study = write_study(f"{case.key}-{name}", rival.record(common), optuna.storages.InMemoryStorage())
        unlearner = each.method.prepare(task, each.options, analyse=analysis, track=silent)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            run_rivals({rival: study}, task, unlearner, Budget(cost=cost), evaluator=evaluator)
        run = read_run(read_view(study), study.user_attrs)
        found[name] = float(run.within(cost))
        say(f"{case.key}: {name} {found[name]:.4f} in {len(run.view.trials)} trials, {run.seconds:.0f} s")
    return found


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    quiet_optuna()
    torch.set_num_threads(1)
    cost = chosen.cost or 3000.0
    wanted = chosen.tasks or (QUICK if chosen.quick else TASKS)
    cases = [case for case in CASES if case.key in wanted and (case.needs is None or case.needs.exists())]
    folder = chosen.work / f"seed{chosen.seed}-{cost:.0f}"
    results = {
        case.key: kept(folder / f"{case.key}.json", partial(run_case, case, cost, chosen.seed, chosen.device))
        for case in cases
    }
    if not results:
        raise SystemExit("error: no such task, --tasks, see benchmarks.outcome --help")
    names = list(next(iter(results.values())))
    gaps = {key: max(s for name, s in found.items() if name != AUTO) - found[AUTO] for key, found in results.items()}
    rows = [[key, *(f"{found[name]:.3f}" for name in names), f"{gaps[key]:+.3f}"] for key, found in results.items()]
    lines += [f"Best feasible s within {cost:.0f} slice passes, everything billed.", ""]
    lines += table(["task", *names, "gap of auto"], rows)
    metrics: Metrics = {"tasks": len(results), "cost": cost}
    metrics |= {f"{AUTO}.gap_to_best": float(np.median(list(gaps.values()))), f"{AUTO}.worst_gap": max(gaps.values())}
    means = {name: float(np.mean([found[name] for found in results.values()])) for name in names}
    fixed = max((name for name in names if name != AUTO), key=means.__getitem__)
    against = [results[key][fixed] - results[key][AUTO] for key in results]
    metrics |= {f"{AUTO}.gap_to_best_fixed": float(np.median(against))}
    metrics |= {f"mean_best.{name}": mean for name, mean in means.items()}
    lines += [
        "",
        f"Median gap {metrics['auto.gap_to_best']:+.4f}, to the best of all tasks ({fixed}) {np.median(against):+.4f}.",
    ]
    return metrics


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
