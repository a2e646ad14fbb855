"""Early stopping at its own level: how often a better trial is lost, what is saved, and what estimates are worth.

On recorded qualities (`tests/objective/data/slices.npz`, made by stopping_tasks.py), slices in random orders. Metrics
with `before.` are of the rule before errors were spent: one-sided 0.001 a look, gains of both sets added as roots of
squares, Student's t alone.

`error`: a feasible trial next to an incumbent that it just beats, min_retained just below what it retains, is
stopped; over all pairs of neighbours. `error_low` and `error_high` are its 95 % interval (Clopper-Pearson),
`error_worst` is the worst task's, `stated` what the rule promises. `slices`: share of slices evaluated in searches of
a task's recorded trials in random order; `lost`: searches whose best trial was stopped. `coverage`: reported 95 %
intervals (1.96 standard errors) of stopped trials' means that hold the mean over all slices; `before.coverage`
without the larger standard error.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy import stats

from benchmarks.harness import Metrics, main
from benchmarks.trial_cost.replay import SETS, Qualities, Recorded, score_of, search, shuffled, stops
from ssdtune.objective import stopping
from ssdtune.objective.estimate import Estimate, estimate_mean
from ssdtune.objective.score import Score, ScoreRule

RECORDED = Path(__file__).parents[1] / "tests" / "objective" / "data" / "slices.npz"


def recorded_tasks(path: Path = RECORDED) -> Iterator[tuple[str, list[Qualities], float]]:
    """Each task's name, models (the untouched one first) and floor."""
    with np.load(path) as data:
        for name in dict.fromkeys(key.rpartition("/")[0] for key in data):
            columns = [data[f"{name}/{part}"].astype(float) for part in SETS]
            yield (
                name,
                [dict(zip(SETS, pair, strict=True)) for pair in zip(*columns, strict=True)],
                data[f"{name}/floor"],
            )


def measure(options: argparse.Namespace) -> Metrics:
    orders = 20 if options.quick else 200
    metrics: Metrics = {"stated": stopping.ERROR, "orders": orders}
    with earlier_rule():
        metrics |= {f"before.{name}": value for name, value in replays(orders, options.seed, widened=1).items()}
    return metrics | replays(orders, options.seed, widened=stopping.STOPPED_SE)


def replays(orders: int, seed: int, widened: float) -> Metrics:
    errors, searches = [], []
    for _, models, floor in recorded_tasks():
        rng = np.random.default_rng(seed)
        rule = ScoreRule(float(models[0]["retain"].mean()), float(models[0]["forget"].mean()), float(floor))
        errors.append([just_better_stopped(*pair, models[0], rule, orders, rng) for pair in neighbours(models, rule)])
        for _ in range(max(1, orders // 10)):
            untouched, *trials = shuffled(models, rng)
            searches.append(search(untouched, trials, rule, rng))
    counts = np.array([sum(map(sum, task)) for task in errors]), np.array([sum(map(len, task)) for task in errors])
    stopped, tried = int(counts[0].sum()), int(counts[1].sum())
    covered = [inside for each in searches for pair in each.stopped for inside in covers(*pair, widened)]
    low, high = stats.binomtest(stopped, tried).proportion_ci(0.95)
    return {
        "error": stopped / tried,
        "error_low": float(low),
        "error_high": float(high),
        "error_worst": float(max(counts[0] / np.maximum(counts[1], 1))),
        "lost": float(np.mean([each.lost for each in searches])),
        "slices": float(np.mean([each.slices for each in searches])),
        "coverage": float(np.mean(covered)),
        "stopped": len(covered) // 2,
    }


def neighbours(models: list[Qualities], rule: ScoreRule) -> Iterator[tuple[Qualities, Qualities]]:
    """(better, incumbent) of all feasible models, in order of their scores."""
    feasible = [model for model in models if score_of(rule, model).feasible]
    ranked = sorted(feasible, key=lambda model: score_of(rule, model).value)
    return zip(ranked[1:], ranked, strict=False)


def just_better_stopped(
    better: Qualities,
    incumbent: Qualities,
    untouched: Qualities,
    rule: ScoreRule,
    orders: int,
    rng: np.random.Generator,
) -> list[bool]:
    """Whether a trial was stopped, an order each, though it is feasible and better, both by 1e-9."""
    score = score_of(rule, better)
    rule = replace(rule, min_retained=max(0.0, score.retained - 1e-9))
    best = Score(score.value - 1e-9, 1.0, 0.0, 0.0)
    found = []
    for _ in range(orders):
        trial, *known = shuffled([better, untouched, incumbent], rng)
        found.append(stops(Recorded(trial), known, rule, best))
    return found


def covers(found: Recorded, known: list[Qualities], widened: float) -> list[bool]:
    """Whether the interval of each set's estimate, when the trial was stopped, holds the mean over all its slices."""
    inside = []
    for name in SETS:
        controls = np.array([model[name] for model in known])
        estimate = estimate_mean(found.quality(name), controls, slice(0, found.done[name]))
        error = abs(estimate.mean - found.qualities[name].mean())
        inside.append(bool(error <= 1.96 * widened * estimate.se + 1e-9))
    return inside


@contextmanager
def earlier_rule() -> Iterator[None]:
    """The rule of the first edition in place of today's."""

    def bounds(estimate: Estimate) -> tuple[float, float]:
        width = min(float(stats.t.ppf(0.999, estimate.freedom)) * estimate.se if estimate.freedom > 0 else 1e3, 1e3)
        return estimate.mean - width, estimate.mean + width

    def reason(retain: Estimate, forget: Estimate, rule: ScoreRule, best: Score) -> stopping.Reason | None:
        kept, left = bounds(retain)[1], bounds(forget)[0]
        if not rule(kept, forget.mean).feasible:
            return "infeasible"
        here = rule(retain.mean, forget.mean).value
        gain = math.hypot(rule(kept, forget.mean).value - here, rule(retain.mean, left).value - here)
        return "worse" if here + gain < best.value else None

    with patch.multiple(stopping, _bounds=bounds, stop_reason=reason):
        yield


if __name__ == "__main__":
    main(__doc__ or "", measure)
