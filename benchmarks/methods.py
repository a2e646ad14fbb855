"""Every method on small tasks, at equal trials: what each comes to, and what it costs.

Simulated scans (32 pixels, three kinds of what is to be forgotten) and MNIST with false labels, a trained model of
each. Every method of the table is searched by TPE with the same number of trials and the same seeds, its published
settings first, against the oracle as floor (w = 0.2, min_retained 0.95). `s.METHOD` is the best feasible score of the
MRI tasks, `classes.s.METHOD` that of the classifiers, with `.lo` and `.hi` the 95 % bootstrap interval of the mean
over trained models. `compose` is made of two trials of `spectral` and `ft`, whose cost it is billed. Results are kept
one by one in `--work`: a run that was stopped goes on, and `--summary` shows what there is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.harness import ROOT, Metrics, add_resumable, commits_of, main, table
from benchmarks.outcome.runs import Made, Plan, Result, Section, read, say
from benchmarks.outcome.tables import Goal, Study, interval
from benchmarks.outcome.tasks import CASES, Case, make_task
from ssdtune.errors import ConfigError
from ssdtune.files import atomic_path
from ssdtune.learning.processes import run_in_processes
from ssdtune.progress import silent
from ssdtune.study.parents import parents_of
from ssdtune.study.storage import quiet_optuna
from ssdtune.unlearning.methods import METHODS

MRI, CLASSES = ("mri-014-1", "mri-020-1", "mri-029-1"), ("vision-028",)
COMPOSE, PARENTS = "compose", ("spectral", "ft")
BOUND = 0.95
GOAL = Goal(0.2, BOUND)
LACKS, CORE = "lacks", "core_seconds"
A_STUDY = 6.0  # seconds on a calm core, about, of 8 trials


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME", help="those run (default: all)")
    parser.add_argument("--tasks", nargs="+", metavar="KEY", help=f"of {', '.join((*MRI, *CLASSES))} (default: all)")
    parser.add_argument("--models", type=int, help="trained models of a task, at most 3 (default 1)")
    parser.add_argument("--trials", type=int, help="of a study (default 8)")
    add_resumable(parser, ROOT / "build/methods")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    if unknown := set(chosen.methods) - set(METHODS):
        raise SystemExit(f"error: no method '{min(unknown)}', --methods, choose among {', '.join(METHODS)}")
    trials = chosen.trials or (4 if chosen.quick else 8)
    ordered = sorted(chosen.methods, key=lambda name: name == COMPOSE)  # after its parents
    plan = Plan({name: {"name": name} for name in ordered}, (BOUND,), trials, chosen.seed, chosen.work, chosen.device)
    cases = cases_of(chosen)
    jobs = [(plan, case, model) for model in range(3) for case in cases if model < case.models]
    left = sum(len(plan.missing(case, model)) for _, case, model in jobs)
    if chosen.dry_run:
        lines.append(f"{left} studies are missing, about {left * A_STUDY * trials / 8 / 60:.0f} minutes of one core")
        return {"missing": left}
    if not chosen.summary:
        run_in_processes(run_model, jobs, chosen.workers, track=silent, description="methods")
    return summarise(plan, cases, lines)


def cases_of(chosen: argparse.Namespace) -> list[Case]:
    """The tasks whose data are there, one of each kind with ``--quick``."""
    wanted = chosen.tasks or ((MRI[0], *CLASSES) if chosen.quick else (*MRI, *CLASSES))
    most = chosen.models or 1
    cases = [replace(case, models=min(case.models, most)) for case in CASES if case.key in wanted]
    for case in cases:
        if case.needs is not None and not case.needs.exists():
            say(f"left out {case.key}: no {case.needs}, set SSDTUNE_TEST_DATA to the folder of the data")
    return [case for case in cases if case.needs is None or case.needs.exists()]


def run_model(job: tuple[Plan, Case, int]) -> None:
    """Every missing study of one trained model."""
    plan, case, model = job
    torch.set_num_threads(1)
    quiet_optuna()
    missing = plan.missing(case, model)
    if not missing:
        return
    made = Made(make_task(case, model, plan.device), case.family, model)
    for label, bound in missing:
        started = time.process_time()
        try:
            found = search(plan, made, label)
        except ConfigError as reason:  # what the task does not have; the others go on
            found = {LACKS: reason.what}
        found |= {"section": dict(plan.methods[label]), CORE: time.process_time() - started}
        place = plan.place(case, model, label, bound)
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(place) as path:
            path.write_text(json.dumps(found))
        say(f"{place.parent.name}: {label} in {found[CORE]:.0f} s{' (does not suit)' * (LACKS in found)}")


def search(plan: Plan, made: Made, label: str) -> Result:
    """One study; the parents of a composition are searched again where a run before this one did."""
    section: Section = plan.methods[label]
    if label == COMPOSE:
        for name in PARENTS:
            if name not in made.studies:
                made.search(name, {"name": name}, BOUND, plan)
        section = {**section, "parents": parents_of([made.studies[name] for name in PARENTS], made.task)}
    return made.search(label, section, BOUND, plan)


def studies_of(plan: Plan, cases: Sequence[Case], label: str) -> Iterator[Study]:
    """Those there are of a method, one a trained model."""
    for case in cases:
        for model in range(case.models):
            found = read(plan.place(case, model, label, BOUND))
            if found is not None and LACKS not in found:
                yield Study({**found, "analysis": found["preparation"]}, GOAL)


def summarise(plan: Plan, cases: Sequence[Case], lines: list[str]) -> Metrics:
    """Fills ``lines`` with the table, best of the MRI tasks first; returns the metrics."""
    metrics: Metrics = {"trials": plan.trials}
    kinds = {"": [case for case in cases if case.key in MRI], "classes.": [c for c in cases if c.key in CLASSES]}
    cells: dict[str, list[str]] = {}
    for label in plan.methods:
        row = []
        for prefix, of in kinds.items():
            studies = list(studies_of(plan, of, label))
            row += shown(studies, f"{prefix}{{}}.{label}", metrics)
        cells[label] = row
    if not any(key.startswith(("s.", "classes.s.")) for key in metrics):
        raise SystemExit("error: no results yet, --work, run without --summary")
    order = sorted(cells, key=lambda label: -metrics.get(f"s.{label}", metrics.get(f"classes.s.{label}", 0.0) - 1))
    counts = [max(len(list(studies_of(plan, of, label))) for label in plan.methods) for of in kinds.values()]
    metrics |= {"methods": len(cells), "models": sum(counts), "core_minutes": core_minutes(plan, cases)}
    lines += [
        f"{len(cells)} methods, {plan.trials} trials each, {metrics['core_minutes']:.0f} minutes of one core. "
        f"Run at commit {commits_of(plan.work)}.",
        "",
        f"Best feasible s at {plan.trials} trials, mean over trained models with its 95 % interval: {counts[0]} "
        f"of simulated MRI tasks, {counts[1]} of a classifier (MNIST, false "
        "labels). An untouched model has 0.2. Slice passes are of the whole study. Empty: it does not suit the task.",
        "",
    ]
    columns = ["s, MRI", "retained", "slice passes", "s, classifier", "retained there", "slice passes there"]
    lines += table(["method", *columns], [[label, *cells[label]] for label in order])
    return metrics


def shown(studies: Sequence[Study], name: str, metrics: Metrics) -> list[str]:
    """Cells of a method on one kind of task, whose figures go into ``metrics``."""
    if not studies:
        return ["", "", ""]
    best = np.array([study.best for study in studies])
    low, high = interval(best, np.mean)
    metrics[name.format("s")] = float(best.mean())
    metrics |= {f"{name.format('s')}.lo": low, f"{name.format('s')}.hi": high}
    metrics[name.format("retained")] = retained = float(np.mean([study.retained for study in studies]))
    metrics[name.format("cost")] = cost = float(np.mean([study.cost for study in studies]))
    spread = f" [{low:.3f}, {high:.3f}]" if len(best) > 1 else ""
    return [f"{best.mean():.3f}{spread}", f"{retained:.3f}", f"{cost:.0f}"]


def core_minutes(plan: Plan, cases: Sequence[Case]) -> float:
    places = [plan.place(case, m, label, BOUND) for case in cases for m in range(case.models) for label in plan.methods]
    return float(sum(found[CORE] for found in map(read, places) if found is not None)) / 60


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
