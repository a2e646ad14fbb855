"""Two remedies against a prior that is a trap.

`guarded`, a bound by construction, is two searches in turn: one without prior that sees its own trials alone, so that
it goes exactly the way of `no-prior`, has trial 3, 5, 6, 8, 9, 11, ..., which is floor(1.5 n + 2) of its n-th; the
others are the spectrum sampler's with its prior, which sees all trials. So what `no-prior` finds at its n-th trial
`guarded` has found by then. `released` detects stagnation: where the last three trials brought nothing, the next one is
proposed as if there were no prior, from all trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.competition.runs import (
    NO_PRIOR,
    SETTINGS,
    SPECTRUM,
    Job,
    Searched,
    build,
    new_study,
    run_job,
    try_next,
)
from benchmarks.competition.tables import TRAP_GRACE, TRAP_RATIO

GUARDED, RELEASED = "guarded", "released"
LED = (SPECTRUM, GUARDED, RELEASED)
"""Searches with a prior: as it is, and with each remedy."""

PATIENCE = 3


def run(job: Job, task: Searched) -> np.ndarray:
    """s of every trial of a job, minus infinity where infeasible, by the remedy that its label begins with."""
    return _RUNS.get(job.label.split()[0], run_job)(job, task)


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
