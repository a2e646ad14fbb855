"""To a good setting at a fraction of the cost: `study run` as it ships against TPE with plain trials, all inside.

Simulated tasks of four sizes, the largest of 128 pixels and a million parameters; the method is `ssd`. A setting is
good if it is feasible and within 0.01 of the best of 256 settings of a dense search, in which no sampler has a part;
a task on which the model as it is would be good does not count (48px-bias). TPE draws from its first trial on.
Four cells are measured, each from the trained model to its first good trial: {plain, fast} evaluation x {tpe,
spectrum}. Inside are the Fisher analysis, the untouched model's slices, the prior, the search and the trials. Plain:
every slice of every trial by stock fastMRI modules, one by one from its file, nothing shared, Optuna in memory. Fast:
the study as it ships, on SQLite. A cell that finds nothing good in 50 trials is censored and counts with the seconds of
those 50: a censored plain cell makes a speed-up too small, a censored fast one too large. Seconds are CPU seconds of
one thread.

Beyond 32 pixels only the first plain trials of each search are run (15, 10 and 5 as the images grow); the search goes
on with every slice measured by the fast form, and each further trial counts the median seconds of those that were run.
`replay_error` is the largest difference of a score between the two. `retrain_ratio`: slice passes of the shipped way,
analysis and untouched model inside, over those of training again on the retain set; `retrain_ratio_paper` is computed
for 5,898 + 536 slices and 50 epochs (`tables.paper_ratio`), `retrain_ratio_paper_part` where the analysis takes 590
slices of each set at most. `_tenth` and `_quarter` : two remedies, an analysis of a part (`cells.PARTS`). Starting
Python is in no cell. About 50 core-minutes; results are kept one by one in `--work`, a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from benchmarks.harness import ROOT, Metrics, add_resumable, commits_of, main
from benchmarks.headline.runs import core_minutes, files, read_task, run_task
from benchmarks.headline.tables import in_words, summary, tables
from benchmarks.headline.tasks import PLANS, QUICK
from ssdtune.learning.processes import run_in_processes
from ssdtune.progress import silent


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tasks", nargs="+", metavar="NAME", choices=[plan.name for plan in PLANS], help="some of the tasks"
    )
    add_resumable(parser, ROOT / "build/headline")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    torch.set_num_threads(1)
    plans = QUICK if chosen.quick else tuple(plan for plan in PLANS if plan.name in (chosen.tasks or [plan.name]))
    work = chosen.work / ("quick" if chosen.quick else "full")
    missing = [plan for plan in plans if any(not path.exists() for path in files(work, plan))]
    if chosen.dry_run:
        minutes = sum(plan.minutes for plan in missing)
        lines.append(f"missing: {len(missing)} of {len(plans)} tasks, at most {minutes:.0f} minutes of one core")
        return {"missing": len(missing)}
    if missing and not chosen.summary:
        run = partial(run_task, work, seed=chosen.seed, quick=chosen.quick)
        run_in_processes(run, missing, min(chosen.workers, len(missing)), track=silent, description="tasks")
    tasks = [read_task(work, plan) for plan in plans if all(path.exists() for path in files(work, plan))]
    if not tasks:
        raise SystemExit("error: no results yet, --work, run without --summary")
    if not any(task.counts for task in tasks):
        raise SystemExit("error: no task has anything to find, --tasks, choose others as well")
    found = summary(tasks)
    minutes = core_minutes(work, plans)
    lines += [f"{len(tasks)} tasks, {minutes:.0f} minutes of one core, run at commit {commits_of(chosen.work)}.", ""]
    lines += [*in_words(found), "", *tables(tasks)]
    return {**found, "core_minutes": minutes}


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
