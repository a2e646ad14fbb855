"""What a competition of samplers is judged by, from regret alone.

Notation: a run is one sampler on one task with one seed; its regret after n trials is best known s - incumbent s, where
the incumbent is the best feasible trial so far, starting from the untouched model. Arrays of runs are (tasks, seeds,
trials). Tasks, not seeds, are the unit: seeds are averaged within a task first.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy import stats

from ssdtune.errors import ConfigError

RESAMPLES = 2000


class Band(NamedTuple):
    """A curve with a confidence band, each (trials,); ``low`` and ``high`` are NaN where there is one block only."""

    centre: np.ndarray
    low: np.ndarray
    high: np.ndarray


class SolvedCurve(NamedTuple):
    """Share of runs that have reached the target within n trials, n = 0 ... budget, with a confidence band."""

    trials: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def incumbent_regret(
    values: np.ndarray, feasible: np.ndarray, *, best_known: float | np.ndarray, start: float
) -> np.ndarray:
    """Regret of the best feasible value so far, (..., trials), never below 0.

    values, feasible : (..., trials); a value that is not finite counts as infeasible.
    best_known : best known s, a number or one per leading index. start : s of the untouched model (retain_weight).
    """
    usable = np.asarray(feasible, bool) & np.isfinite(values)
    incumbent = np.maximum.accumulate(np.where(usable, values, -np.inf), axis=-1)
    best = np.asarray(best_known, float)[..., None] if np.ndim(best_known) else best_known
    return np.clip(best - np.maximum(incumbent, start), 0.0, None)


def block_curves(runs: np.ndarray) -> np.ndarray:
    """(blocks, trials) curves to compare: tasks (mean over seeds), or the seeds themselves where there is one task.

    Raises ConfigError: ``runs`` is not (tasks, seeds, trials), is empty, or holds values that are not finite.
    """
    runs = np.asarray(runs, float)
    if runs.ndim != 3 or runs.size == 0 or not np.isfinite(runs).all():
        raise ConfigError(
            f"regret must be a finite (tasks, seeds, trials) array, got shape {runs.shape}",
            "competition",
            "give every sampler the same tasks, seeds and trials",
        )
    found: np.ndarray = runs[0] if runs.shape[0] == 1 else runs.mean(axis=1)
    return found


def mean_band(curves: np.ndarray, level: float = 0.95, seed: int = 0) -> Band:
    """Mean of (blocks, trials) curves with a percentile bootstrap band over blocks (scipy.stats.bootstrap)."""
    centre = curves.mean(axis=0)
    if len(curves) < 2:
        empty = np.full_like(centre, np.nan)
        return Band(centre, empty, empty)
    with warnings.catch_warnings():
        # identical curves at a trial (all at 0 regret, say) are a band of no width, not a fault
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        how = {"method": "percentile", "n_resamples": RESAMPLES, "rng": np.random.default_rng(seed)}
        found = stats.bootstrap((curves,), np.mean, axis=0, vectorized=True, confidence_level=level, **how)
        interval = found.confidence_interval
    return Band(centre, np.asarray(interval.low), np.asarray(interval.high))


def trials_to_target(runs: np.ndarray, tolerance: float = 0.01) -> np.ndarray:
    """First trial (from 1) whose regret is at most ``tolerance``, shape (...,); inf where the budget ended first."""
    reached = np.asarray(runs) <= tolerance
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1) + 1.0, np.inf)


def block_trials(runs: np.ndarray, tolerance: float = 0.01) -> np.ndarray:
    """Trials to target of each block, (blocks,): the median over seeds of each task, or each seed of a single task."""
    trials = trials_to_target(runs, tolerance)
    found: np.ndarray = trials[0] if len(trials) == 1 else np.median(trials, axis=1)
    return found


def solved_curve(trials: np.ndarray, budget: int, level: float = 0.95) -> SolvedCurve:
    """Share solved within n trials by the Kaplan-Meier estimator, inf being right-censored at ``budget``.

    trials : any shape, from ``block_trials``. The band is Greenwood's, log-log (scipy.stats.ecdf).
    """
    flat = np.ravel(trials).astype(float)
    counts = np.arange(budget + 1)
    censored = ~np.isfinite(flat)
    if censored.all():
        nothing = np.zeros(budget + 1)
        return SolvedCurve(counts, nothing, nothing, nothing)
    data = stats.CensoredData(uncensored=flat[~censored], right=np.full(censored.sum(), float(budget)))
    estimate = stats.ecdf(data)
    with warnings.catch_warnings():
        # the interval is undefined where nothing or everything is solved; those ends are filled with the estimate
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = estimate.cdf.confidence_interval(confidence_level=level, method="log-log")
    share = estimate.cdf.evaluate(counts)
    low, high = (np.asarray(side.evaluate(counts), float) for side in (interval.low, interval.high))
    return SolvedCurve(counts, share, np.where(np.isfinite(low), low, share), np.where(np.isfinite(high), high, share))


def area_under_regret(runs: np.ndarray, trials: int) -> np.ndarray:
    """Mean regret over the first ``trials`` trials, shape (...,): in the units of s, so budgets compare."""
    found: np.ndarray = np.asarray(runs, float)[..., :trials].mean(axis=-1)
    return found


def win_rate(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-9) -> float:
    """Share of blocks where ``ours`` (blocks,) is below ``theirs``; a tie counts half."""
    difference = np.asarray(ours) - np.asarray(theirs)
    return float(np.mean(np.where(np.abs(difference) <= tolerance, 0.5, difference < 0)))
