"""Is the prior ever a trap, and what would it cost to bound that? On every recorded task, under every goal.

`guarded`, a bound by construction, is two searches in turn: one without prior that sees its own trials alone, so that
it goes exactly the way of `no-prior`, has trial 3, 5, 6, 8, 9, 11, ..., which is floor(1.5 n + 2) of its n-th; the
others are the spectrum sampler's with its prior, which sees all trials. So what `no-prior` finds at its n-th trial
`guarded` has found by then. `released` detects stagnation: where the last three trials brought nothing, the next one is
proposed as if there were no prior, from all trials.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
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
    build,
    new_study,
    run_all,
    run_job,
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

GUARDED, RELEASED = "guarded", "released"
LABELS = (SPECTRUM, NO_PRIOR, GUARDED, RELEASED)
PATIENCE = 3
SHORT = 10  # trials of a quick run


def measure_trap(chosen: argparse.Namespace, replays: Sequence[Replay], lines: list[str]) -> Metrics:
    variant = {FAMILY_OUT: QUICK if chosen.quick else HELD_OUT[FAMILY_OUT]}
    predicted = predict_all(variant, replays, chosen.seed, chosen.workers)[FAMILY_OUT]
    keys = stratified(replays, 6) if chosen.quick else [replay.key for replay in replays]
    by_key = {replay.key: replay for replay in replays if replay.key in keys}
    ledger = Ledger({(s, key): each.best(goal, BOX) for s, goal in SETTINGS.items() for key, each in by_key.items()})
    jobs = [
        Job(setting, label, SPECTRUM, key, seed, SHORT if chosen.quick else BUDGET, response)
        for setting in reversed(SETTINGS)
        for seed in range(chosen.seed, chosen.seed + (1 if chosen.quick else OWN_SEEDS))
        for key in by_key
        for label in LABELS
        for response in (None if label == NO_PRIOR else predicted[key].response,)
    ]
    for job, found in run_all(jobs, by_key, chosen.workers, chosen.kept, run):
        ledger.add(job, found)
    lines.append(f"{len(by_key)} recorded tasks, each of a family that the mapper has not seen.")
    metrics: Metrics = {}
    for setting in SETTINGS:
        metrics |= report(ledger, setting, lines)
    return metrics


def report(ledger: Ledger, setting: str, lines: list[str]) -> Metrics:
    """Metrics and the table of one goal, and who breaks the bound."""
    found: Metrics = {}
    for label in LABELS:
        found |= sampler_metrics(ledger, setting, label)
    budgets = {label: ledger.regret(setting, label).shape[2] for label in LABELS}
    lines += ["", *sampler_table(found, setting, LABELS, budgets), ""]
    for label in (SPECTRUM, GUARDED, RELEASED):
        trap = trap_metrics(ledger, setting, label, NO_PRIOR)
        wins = win_metrics(ledger, setting, label, NO_PRIOR)
        lines.append(
            f"`{label}` takes more than {TRAP_RATIO} times the trials of `{NO_PRIOR}` and {TRAP_GRACE} on "
            f"{trap[f'{setting}.trap.stuck_tasks']:g} tasks, at most {trap[f'{setting}.trap.max_ratio']:.2f} times"
            f"{in_pairs(trap, setting)}; it is ahead in area under regret over 30 trials on "
            f"{wins[f'{setting}.win_rate_vs_no_prior']:.0%}.\n"
        )
        found |= {name.replace("trap.", f"trap.{label}.", 1): value for name, value in trap.items()}
        found |= {name.replace("win_rate", f"{label}.win_rate", 1): value for name, value in wins.items()}
    return {f"ssd.{name}": value for name, value in found.items()}


def in_pairs(trap: Metrics, setting: str) -> str:
    """How often single searches break the bound, in words, where there are several."""
    if f"{setting}.trap.null.stuck_tasks" not in trap:
        return ""
    one, null = (trap[f"{setting}.trap.{name}.stuck_tasks"] for name in ("one_seed", "null"))
    return f" ({one:g} search by search; {null:g} between two without prior)"


def run(job: Job, task: Searched) -> np.ndarray:
    """s of every trial of a job by its label, minus infinity where infeasible."""
    return _RUNS.get(job.label, run_job)(job, task)


def run_guarded(job: Job, task: Searched) -> np.ndarray:
    """Two searches in turn, of which the led one sees both."""
    led, alone = new_study(job, task), new_study(without_prior(job), task)
    turns = own_turns(job.trials)
    found = np.empty(job.trials)
    for number in range(job.trials):
        study = alone if number in turns else led
        found[number] = try_next(study, task, SETTINGS[job.setting])
        if study is alone:
            led.add_trial(study.trials[-1])
    return found


def own_turns(trials: int) -> set[int]:
    """Numbers, from 0, of the trials without prior."""
    return {int(TRAP_RATIO * n + TRAP_GRACE) - 1 for n in range(1, trials)}


def run_released(job: Job, task: Searched) -> np.ndarray:
    """One search that leaves its prior at a trial before which ``PATIENCE`` trials brought nothing."""
    study = new_study(job, task)
    led, free = study.sampler, build(without_prior(job), task)
    found = np.empty(job.trials)
    for number in range(job.trials):
        study.sampler = free if stagnates(found[:number], SETTINGS[job.setting].untouched) else led
        found[number] = try_next(study, task, SETTINGS[job.setting])
    return found


def stagnates(found: np.ndarray, untouched: float) -> bool:
    """Whether the last ``PATIENCE`` trials were no better than the best before, the untouched model among it."""
    before, last = found[:-PATIENCE], found[-PATIENCE:]
    return len(found) >= PATIENCE and bool(last.max() <= max(untouched, before.max(initial=-np.inf)))


def without_prior(job: Job) -> Job:
    return replace(job, label=NO_PRIOR, response=None)


_RUNS: dict[str, Callable[[Job, Searched], np.ndarray]] = {GUARDED: run_guarded, RELEASED: run_released}
