"""Running samplers on recorded tasks: one Optuna study in memory a run, and what its trials leave.

A job is one sampler on one task and setting with one seed; jobs are independent and run in processes of one thread.
A prediction of the mapper travels with its job as JSON. Runs can be kept in a file, so that a stopped competition goes
on; those that our own code has a part in are known by its hash too, so that other code makes them anew.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from benchmarks.competition.replay import Replay
from benchmarks.competition.rivals import RIVALS, Given, Plane
from benchmarks.imports import code_hash, code_of, read_sources
from ssdtune.errors import DataError
from ssdtune.plane.settings import Box
from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.report.regret import incumbent_regret
from ssdtune.samplers.outputs import REMEMBERED, RETAINED, UNCLIPPED
from ssdtune.samplers.spectrum import SpectrumSampler
from ssdtune.samplers.table import SAMPLERS, Inputs, seed_of
from ssdtune.study.record import CONSTRAINT
from ssdtune.surrogate.improvement import Goal
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

SETTINGS = {
    "w0.2": Goal(0.2, 0.0),
    "w0.5": Goal(0.5, 0.0),
    "w0.2_min0.95": Goal(0.2, 0.95),
    "w0.5_min0.95": Goal(0.5, 0.95),
}


class Searched(Plane, Protocol):
    """What a run needs of a task: the plane, and unclipped (retained, remembered), (2, 1), at a setting."""

    def outputs(self, alpha: float, lam: float) -> np.ndarray: ...


BOX = Box((0.1, 300.0), (0.03, 300.0))
SPECTRUM, NO_PRIOR = "spectrum", "no-prior"  # NO_PRIOR is SPECTRUM run without a prior
UNGUARDED = "unguarded"
"""The spectrum sampler with all trials its prior's."""

LED = (SPECTRUM, UNGUARDED)
"""Searches with a prior."""

HALF_TRUST = "half-trust"
"""A remedy against wrong priors: what assumes nothing outweighs the prior sooner."""


@dataclass(frozen=True)
class Job:
    """One run. ``label`` is the name it is reported under; ``sampler`` names what is run; ``response`` is the mapper's
    prediction for the task, as ``ResponseSurface.to_json`` gives it."""

    setting: str
    label: str
    sampler: str
    task: str
    seed: int
    trials: int
    response: Mapping[str, Any] | None = None


def build(job: Job, task: Searched) -> BaseSampler:
    """The job's sampler, seeded by names."""
    goal = SETTINGS[job.setting]
    prior = None
    if job.response is not None:
        surface = ResponseSurface.from_json(job.response)
        prior = HyperparameterPrior(surface, goal.retain_weight, goal.min_retained, BOX)
    seed = seed_of(job.seed, f"{job.task} {job.setting}", SPECTRUM if job.sampler in LED else job.sampler)
    if job.sampler == UNGUARDED:
        return SpectrumSampler(prior, seed=seed, guard=False)
    if job.sampler in RIVALS:
        return RIVALS[job.sampler].make(seed, Given(task, prior.mode if prior is not None else None))
    return SAMPLERS[job.sampler].make(Inputs(seed, seed, goal, prior))


def settings_of(sampler: str) -> str:
    """A sampler's settings in words."""
    return (RIVALS.get(sampler) or SAMPLERS[sampler]).settings


def run_job(job: Job, task: Searched) -> np.ndarray:
    """s of every trial of a study in memory, minus infinity where infeasible."""
    name = f"{job.task}-{job.setting}"
    study = optuna.create_study(direction="maximize", study_name=name, sampler=build(job, task))
    found = np.empty(job.trials)
    for number in range(job.trials):
        trial = study.ask()
        s, feasible = place(trial, task, SETTINGS[job.setting])
        study.tell(trial, s)
        found[number] = s if feasible else -np.inf
    return found


def place(trial: optuna.Trial, task: Searched, goal: Goal) -> tuple[float, bool]:
    """(s, feasible) of the setting that a trial is given here, in the box; the trial has its outputs and constraint."""
    alpha = trial.suggest_float(ALPHA, *BOX.alpha, log=True)
    lam = trial.suggest_float(LAMBDA, *BOX.lam, log=True)
    outputs = task.outputs(alpha, lam)[:, 0]
    for name, value in zip((RETAINED, REMEMBERED), outputs, strict=True):
        trial.set_user_attr(name, float(np.clip(value, 0, 1)))
        trial.set_user_attr(name + UNCLIPPED, float(value))
    trial.set_constraint(CONSTRAINT, goal.min_retained - float(np.clip(outputs[0], 0, 1)))
    return float(goal.score(*outputs)), bool(goal.feasible(outputs[0]))


def regret_of(found: np.ndarray, best: float, goal: Goal) -> np.ndarray:
    """Incumbent regret (trials,) of a run, from the untouched model on."""
    return incumbent_regret(found, np.isfinite(found), best_known=best, start=goal.untouched)


_replays: dict[str, Replay] = {}


def start_process() -> None:
    """Optuna quiet, torch (GPSampler) on one thread."""
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # CmaEsSampler says at every trial that it is blind to the constraint


def _start(replays: Mapping[str, Replay]) -> None:
    start_process()
    _replays.update(replays)


def _one(job: Job) -> tuple[Job, np.ndarray]:
    return job, run_job(job, _replays[job.task])


def run_all(
    jobs: Sequence[Job], replays: Mapping[str, Replay], workers: int, kept: Path | None = None
) -> Iterator[tuple[Job, np.ndarray]]:
    """Every job with s of its trials; says on stderr how far it is. ``kept`` is a file of finished runs."""
    known = {} if kept is None else read_kept(kept)
    left = []
    for job in jobs:
        if known and (found := known.get(_name(job, replays[job.task]))) is not None:
            yield job, np.array(found)
        else:
            left.append(job)
    started = time.perf_counter()
    for done, (job, found) in enumerate(in_processes(_one, left, workers, _start, (replays,)), 1):
        if done % 200 == 0:
            spent = time.perf_counter() - started
            progress(f"  {done} of {len(left)} runs, {spent:.0f} s, {spent / done * (len(left) - done):.0f} s left")
        if kept is not None:
            with kept.open("a") as file:
                file.write(json.dumps({"run": _name(job, replays[job.task]), "s": found.tolist()}) + "\n")
        yield job, found


def _name(job: Job, replay: Replay) -> str:
    """A run by what it depends on: the sampler and its seed, the setting, the budget, the task's measures; where our
    own code has a part in it, also the label, that code and what was predicted."""
    name = f"{job.setting} {job.sampler} {job.seed} {job.trials} {job.task} {replay.fingerprint}"
    if job.sampler not in LED and job.response is None:
        return name
    predicted = hashlib.sha256(json.dumps(job.response, sort_keys=True).encode()).hexdigest()[:12]
    return f"{name} {job.label} {_code()} {predicted}"


_OWN = ("replay", "rivals", "runs")
"""Modules here that have a part in what a run comes to."""


@cache
def _code() -> str:
    sources = read_sources()
    own = [code_of(sources[f"benchmarks.competition.{name}"]) for name in _OWN]
    return hashlib.sha256("\n".join([code_hash("competition", sources), *own]).encode()).hexdigest()[:12]


def read_kept(file: Path) -> dict[str, list[float]]:
    """s of the trials of finished runs, by what each run depends on; a file that is not there is begun.

    Raises ``DataError`` where runs can't be read from it or added to it.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+") as lines:
            lines.seek(0)
            found = [json.loads(line) for line in lines]
        return {run["run"]: run["s"] for run in found}
    except (OSError, ValueError, KeyError, TypeError) as reason:
        todo = "--kept, take a file of finished runs or a new one"
        raise DataError(f"no runs can be kept there ({reason})", file, todo) from reason


def in_processes(
    work: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
    chunk: int = 4,
) -> Iterator[Any]:
    """``work`` over ``items`` in processes; in this one where ``workers`` is 0. Spawned: a forked torch may hang."""
    if workers == 0:
        if initializer is not None:
            initializer(*arguments)
        yield from map(work, items)
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by NumPy in the new processes
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=initializer, initargs=arguments) as pool:
        yield from pool.map(work, items, chunksize=chunk)


def progress(line: str) -> None:
    """To stderr, so that a table on stdout stays whole."""
    print(line, file=sys.stderr, flush=True)
