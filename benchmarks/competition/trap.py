"""What it would cost to bound the trap by construction, on every recorded task under the default goal.

`guarded` is two searches in turn: one without prior that sees its own trials alone, so that it goes exactly the way of
`no-prior`, has trial 3, 5, 6, 8, 9, 11, ..., which is floor(1.5 n + 2) of its n-th; the others are the spectrum
sampler's with its prior, which sees all trials. So what `no-prior` finds at its n-th trial `guarded` has found by then.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.competition.held_out import BUDGET, OWN_SEEDS, stratified
from benchmarks.competition.priors import FAMILY_OUT, HELD_OUT, QUICK, predict_all
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import (
    BOX,
    NO_PRIOR,
    SETTINGS,
    SPECTRUM,
    Job,
    Searched,
    in_processes,
    new_study,
    run_job,
    start_process,
    try_next,
)
from benchmarks.competition.tables import (
    TRAP_GRACE,
    TRAP_RATIO,
    Ledger,
    sampler_metrics,
    sampler_table,
    trap_metrics,
    win_metrics,
)
from benchmarks.harness import Metrics

SETTING = "w0.2_min0.95"
GUARDED = "guarded"
LABELS = (SPECTRUM, NO_PRIOR, GUARDED)
SHORT = 10  # trials of a quick run


def measure_trap(chosen: argparse.Namespace, replays: Sequence[Replay], lines: list[str]) -> Metrics:
    variant = {FAMILY_OUT: QUICK if chosen.quick else HELD_OUT[FAMILY_OUT]}
    predicted = predict_all(variant, replays, chosen.seed, chosen.workers)[FAMILY_OUT]
    keys = stratified(replays, 6) if chosen.quick else [replay.key for replay in replays]
    by_key = {replay.key: replay for replay in replays if replay.key in keys}
    ledger = Ledger({(SETTING, key): replay.best(SETTINGS[SETTING], BOX) for key, replay in by_key.items()})
    jobs = [
        Job(SETTING, label, SPECTRUM, key, seed, SHORT if chosen.quick else BUDGET, response)
        for seed in range(chosen.seed, chosen.seed + (1 if chosen.quick else OWN_SEEDS))
        for key in by_key
        for label, response in zip(LABELS, (predicted[key].response, None, predicted[key].response), strict=True)
    ]
    work = ((job, by_key[job.task]) for job in jobs)
    for job, found in in_processes(_one, work, chosen.workers, start_process):
        ledger.add(job, found)
    return report(ledger, len(by_key), lines)


def report(ledger: Ledger, tasks: int, lines: list[str]) -> Metrics:
    found: Metrics = {}
    for label in LABELS:
        found |= sampler_metrics(ledger, SETTING, label)
    budgets = {label: ledger.regret(SETTING, label).shape[2] for label in LABELS}
    table = sampler_table(found, SETTING, LABELS, budgets)
    lines += [f"{tasks} recorded tasks, each of a family that the mapper has not seen.", "", *table]
    for label in (SPECTRUM, GUARDED):
        trap = trap_metrics(ledger, SETTING, label, NO_PRIOR)
        stuck = f"{SETTING}.trap.stuck_tasks"
        lines += [
            "",
            f"`{label}` takes more than {TRAP_RATIO} times the trials of `{NO_PRIOR}` and {TRAP_GRACE} on "
            f"{trap[stuck]:g} tasks, at most {trap[f'{SETTING}.trap.max_ratio']:.2f} times.",
        ]
        found |= {name.replace("trap.", f"trap.{label}.", 1): value for name, value in trap.items()}
    found |= win_metrics(ledger, SETTING, GUARDED, NO_PRIOR)
    return {f"ssd.{name}": value for name, value in found.items()}


def run_guarded(job: Job, task: Searched) -> np.ndarray:
    """s of every trial of two searches in turn, minus infinity where infeasible."""
    goal = SETTINGS[job.setting]
    led, alone = new_study(job, task), new_study(replace(job, label=NO_PRIOR, response=None), task)
    turns = own_turns(job.trials)
    found = np.empty(job.trials)
    for number in range(job.trials):
        study = alone if number in turns else led
        found[number] = try_next(study, task, goal)
        if study is alone:
            led.add_trial(study.trials[-1])
    return found


def own_turns(trials: int) -> set[int]:
    """Numbers, from 0, of the trials without prior."""
    return {int(TRAP_RATIO * n + TRAP_GRACE) - 1 for n in range(1, trials)}


def _one(work: tuple[Job, Replay]) -> tuple[Job, np.ndarray]:
    job, task = work
    return job, (run_guarded if job.label == GUARDED else run_job)(job, task)
