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

What might make the rule cheaper, under the same metrics: `front.` spends the error by the square root of the share of
slices seen, so most of it at the first look; `joint.` takes one bound of the score, 0.7 of the error, for both sets and
the rest for the bound of min_retained; `skew.` allows for a skewness of 1.5 only. `exponential` is the chance that the
upper bound of a set's mean, for which the rule states half its error, fails at a look where residuals are exponential
(40 to 200 slices, the worst), `skew.exponential` the same at 1.5.
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
    for name, rule in {"front": early_spending, "joint": one_bound, "skew": less_skewness}.items():
        with rule():
            found = replays(orders, options.seed, stopping.STOPPED_SE)
            metrics |= {f"{name}.{key}": found[key] for key in ("error", "error_worst", "slices")}
    metrics["exponential"] = exponential_error(options.seed)
    with less_skewness():
        metrics["skew.exponential"] = exponential_error(options.seed)
    return metrics | replays(orders, options.seed, widened=stopping.STOPPED_SE)


def exponential_error(seed: int, draws: int = 20_000) -> float:
    """Chance that the upper bound of a mean fails at a look or another, of slices with exponential residuals."""
    rng, errors = np.random.default_rng(seed), []
    for total in (40, 60, 100, 200):
        values = rng.exponential(size=(draws, total))
        failed, truth = np.zeros(draws, bool), values.mean(1)
        for seen in looks(total):
            part = values[:, :seen]
            se = part.std(1) / math.sqrt(seen) / (1 - 1 / seen) * math.sqrt(1 - seen / total)  # as ``estimate_mean``
            one = Estimate(0.0, 1.0, seen - 1, seen, total)
            failed |= part.mean(1) + one.above(1 - stopping.ERROR / 2 / len(looks(total))) * se < truth
        errors.append(float(failed.mean()))
    return max(errors)


def looks(total: int) -> list[int]:
    """How many slices a set of so many has seen at each look."""
    seen = [stopping.FIRST_LOOK]
    while (more := math.ceil(seen[-1] * stopping.GROWTH)) < total:
        seen.append(more)
    return seen


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
def less_skewness() -> Iterator[None]:
    with patch("ssdtune.objective.estimate.SKEW", 1.5):
        yield


@contextmanager
def early_spending() -> Iterator[None]:
    """Most of the error at the first look."""

    def bounds(estimate: Estimate) -> tuple[float, float]:
        places = [seen for seen in looks(estimate.total) if seen <= estimate.seen][-2:]
        shares = [math.sqrt(seen / looks(estimate.total)[-1]) for seen in places]
        level = 1 - stopping.ERROR / 2 * (shares[-1] - (shares[0] if len(shares) > 1 else 0))
        return estimate.mean - min(estimate.below(level), 1e3), estimate.mean + min(estimate.above(level), 1e3)

    with patch.object(stopping, "_bounds", bounds):
        yield


@contextmanager
def one_bound() -> Iterator[None]:
    """One bound of the score for both sets, and one of retain quality for min_retained."""

    def reason(retain: Estimate, forget: Estimate, rule: ScoreRule, best: Score) -> stopping.Reason | None:
        def level(estimate: Estimate, share: float) -> float:
            return 1 - stopping.ERROR * share / len(looks(estimate.total))

        if not rule(retain.mean + min(retain.above(level(retain, 0.3)), 1e3), forget.mean).feasible:
            return "infeasible"
        kept = retain.mean + min(retain.above(level(retain, 0.7)), 1e3)
        left = forget.mean - min(forget.below(level(forget, 0.7)), 1e3)
        here = rule(retain.mean, forget.mean).value
        gain = math.hypot(rule(kept, forget.mean).value - here, rule(retain.mean, left).value - here)
        return "worse" if here + gain < best.value else None

    with patch.object(stopping, "stop_reason", reason):
        yield


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
