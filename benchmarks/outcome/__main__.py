"""Outcome: how good an unlearned model each method gives, at equal trials and at equal cost.

Tasks of all families of the collection and real anatomies, some with three trained models; every method is searched by
TPE with the same trials and seeds, against the oracle as floor, once for each bound on retained. `median_best` is the
median over tasks of the best feasible s, `share_095` the share of tasks where it is at least 0.95, `cost` the mean
slice passes of a whole study (a forward counts 1, forward and backward 3; analysis, training and evaluation), and
`best_at_3x` the median best s within three times the cost of SSD's study on the same model. `win_rate_vs_ssd` and
`worst_loss_vs_ssd` compare that with the best of SSD's whole study. `oracle_distance` is the mean |q - q_oracle| over
retain, forget, unknown and clean unknown slices of the best trial, `clean_unknown` its q on forget slices that were not
given, against clean targets, above the oracle's. w = 0.5 is scored from the trials of the searches at w = 0.2 (those
stopped early there are left out). `trial_{cost,seconds}_ratio` is what a trial takes in SSD's, all its slices
evaluated; `ssd-long` is SSD with five times the trials. Results are kept one by one in `--work`: a run that was stopped
goes on, and `--summary` shows what there is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.harness import ROOT, Metrics, add_resumable, commits_of, main, table
from benchmarks.outcome.runs import Plan, Result, choose, estimate, read_all, run_all, say
from benchmarks.outcome.tables import BUDGETS, GOALS, WITHIN, Summary, trial_ratios
from benchmarks.outcome.tasks import CASES, Case

QUICK = ("mri-014-1", "mri-020-1", "mri-029-1")
LINEAR, RANK_ERROR = "spectral", "rank_error"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", nargs="+", default=[], metavar="LABEL", help="those compared (default: all)")
    parser.add_argument("--method", action="append", default=[], metavar="LABEL=JSON", help="one more, as a section")
    parser.add_argument("--default", default="spectral-5", metavar="LABEL", help="whose worst tasks are shown")
    parser.add_argument("--tasks", nargs="+", metavar="KEY", help="those run (default: all)")
    parser.add_argument("--models", type=int, default=3, help="the most trained models of a task (default 3)")
    parser.add_argument("--bounds", nargs="+", type=float, help="min_retained of the searches (default 0.95 0.98)")
    parser.add_argument("--trials", type=int, help="of a study (default 30)")
    add_resumable(parser, ROOT / "build/outcome")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    plan = Plan(
        methods=choose(chosen.methods, chosen.method),
        bounds=chosen.bounds or ((0.95,) if chosen.quick else (0.95, 0.98)),
        trials=chosen.trials or (10 if chosen.quick else 30),
        seed=chosen.seed,
        work=chosen.work,
        device=chosen.device,
    )
    cases = choose_cases(chosen)
    if not chosen.summary:
        rows = [[case.key, case.family, case.models, f"{estimate(plan, case):.0f}"] for case in cases]
        total = sum(estimate(plan, case) for case in cases)
        ahead = table(["task", "family", "models", "seconds"], rows)
        ahead.append(f"about {total / 60:.0f} minutes of one core, {total / 60 / chosen.workers:.0f} of all")
        if chosen.dry_run:
            lines += ahead
            return {"estimate_s": total}
        say("\n".join(["what is missing:", *ahead]))
        run_all(plan, cases, chosen.workers)
    metrics = summarise(list(read_all(plan, cases)), chosen.default, lines, chosen.seed)
    lines[0] += f" Run at commit {commits_of(plan.work)}."
    return metrics


def choose_cases(chosen: argparse.Namespace) -> list[Case]:
    """The tasks asked for, as far as their data are there."""
    wanted = chosen.tasks or (QUICK if chosen.quick else [case.key for case in CASES])
    unknown = set(wanted) - {case.key for case in CASES}
    if unknown:
        raise SystemExit(f"error: no task '{min(unknown)}', --tasks, choose among {', '.join(c.key for c in CASES)}")
    most = 1 if chosen.quick else chosen.models
    cases = [replace(case, models=min(case.models, most)) for case in CASES if case.key in wanted]
    for case in cases:
        if case.needs is not None and not case.needs.exists():
            say(f"left out {case.key}: no {case.needs}, set SSDTUNE_TEST_DATA to the folder of the data")
    return [case for case in cases if case.needs is None or case.needs.exists()]


def summarise(results: Sequence[Result], default: str, lines: list[str], seed: int) -> Metrics:
    """Fills ``lines`` with tables of all goals that have results; returns their metrics."""
    if not results:
        raise SystemExit("error: no results yet, --work, run without --summary")
    models = {(result["task"], result["model"]) for result in results}
    metrics: Metrics = {"tasks": len({task for task, _ in models}), "models": len(models)}
    metrics["families"] = len({result["family"] for result in results})
    lines += [f"{metrics['tasks']} tasks of {metrics['families']} families, {metrics['models']} trained models."]
    for goal in GOALS:
        summary = Summary(results, goal, seed)
        if not summary.by:
            continue
        found = summary.metrics()
        metrics |= found
        lines += ["", f"Goal w = {goal.retain_weight:g}, min_retained {goal.min_retained:g}, equal trials:", ""]
        lines += at_equal_trials(summary, found)
        lines += ["", "Median best s at equal cost, in costs of SSD's study:", "", *at_equal_cost(summary, found)]
        if default in summary.by:
            lines += ["", f"Worst tasks of {default}:", "", *worst(summary, default)]
    first = Summary(results, GOALS[0], seed)
    prefix = f"{GOALS[0].name}.oracle_distance"
    metrics |= {name.removeprefix(f"{GOALS[0].name}."): v for name, v in metrics.items() if name.startswith(prefix)}
    for label in first.by:
        passes, seconds = trial_ratios(first, label)
        if math.isfinite(passes):
            metrics |= {f"{label}.trial_cost_ratio": passes, f"{label}.trial_seconds_ratio": seconds}
    lines += ["", "What a trial takes, all its slices evaluated, in SSD's trials:", "", *trial_table(first, metrics)]
    linear = [trial for result in results if result["label"] == LINEAR for trial in result["trials"]]
    errors = [trial[RANK_ERROR] for trial in linear if RANK_ERROR in trial]
    if errors:
        metrics[f"{LINEAR}.{RANK_ERROR}"] = float(np.median(errors))
    return metrics


def trial_table(summary: Summary, metrics: Metrics) -> list[str]:
    names = [f"trial_{what}_ratio" for what in ("cost", "seconds")]
    known = [label for label in summary.by if f"{label}.{names[0]}" in metrics]
    rows = [[label, *(f"{metrics[f'{label}.{name}']:.2f}" for name in names)] for label in known]
    return table(["method", "slice passes", "seconds"], rows)


def at_equal_trials(summary: Summary, metrics: Metrics) -> list[str]:
    def cell(name: str, label: str, digits: str = ".3f", spread: bool = True) -> str:
        key = f"{summary.goal.name}.{name}.{label}"
        if key not in metrics:
            return ""
        ends = f" [{metrics[f'{key}.lo']:{digits}}, {metrics[f'{key}.hi']:{digits}}]" if spread else ""
        return f"{metrics[key]:{digits}}{ends}"

    columns = ["method", "tasks", "best s", "s ≥ 0.95", "retained", "to oracle", "clean unknown", "passes", "seconds"]
    rows = [
        [
            label,
            len(tasks),
            cell("median_best", label),
            cell("share_095", label, ".0%"),
            cell("retained", label, spread=False),
            cell("oracle_distance", label),
            cell("clean_unknown", label, "+.3f"),
            cell("cost", label, ".0f", spread=False),
            cell("seconds", label, ".0f", spread=False),
        ]
        for label, tasks in summary.by.items()
    ]
    return table(columns, rows)


def at_equal_cost(summary: Summary, metrics: Metrics) -> list[str]:
    columns = ["method", *(f"{budget}x" for budget in BUDGETS), f"ahead of SSD at {WITHIN}x", "behind most"]
    rows = []
    for label in summary.by:
        values = [f"{value:.3f}" if math.isfinite(value) else "" for value in summary.curve(label)]
        wins, loss = (f"{summary.goal.name}.{name}_vs_ssd.{label}" for name in ("win_rate", "worst_loss"))
        words = [f"{metrics[wins]:.0%}", f"{metrics[loss]:.3f}"] if wins in metrics else ["", ""]
        rows.append([label, *values, *words])
    return table(columns, rows)


def worst(summary: Summary, label: str, count: int = 5) -> list[str]:
    """The tasks where a method's best s is lowest, with what every other method comes to."""
    others = [other for other in summary.by if other != label]

    def mean(of: str, task: str) -> float:
        studies = summary.by[of][task].values() if task in summary.by[of] else []
        return float(np.mean([study.best for study in studies])) if studies else math.nan

    tasks = sorted(summary.by[label], key=lambda task: mean(label, task))[:count]
    families = {t: next(iter(summary.by[label][t].values())).result["family"] for t in tasks}
    rows = [[t, families[t], f"{mean(label, t):.3f}", *(f"{mean(other, t):.3f}" for other in others)] for t in tasks]
    return table(["task", "family", label, *others], rows)


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
