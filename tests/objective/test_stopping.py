"""The stopping rule at its own level: of trials that just beat the incumbent, on synthetic and on recorded slices."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ssdtune.objective.estimate import estimate_mean
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.objective.stopping import ERROR, FIRST_LOOK, GROWTH, STOPPED_SE, _bounds, decide, looks

RECORDED = Path(__file__).parent / "data" / "slices.npz"  # made by benchmarks/stopping_tasks.py
SETS = ("retain", "forget")


class Slices:
    """A model's evaluation whose slices are known, shown one after the other."""

    broken = ()

    def __init__(self, qualities):
        self.qualities, self.done = qualities, dict.fromkeys(SETS, 0)

    def quality(self, name):
        return self.qualities[name][: self.done[name]]

    def extend(self, name, stop):
        self.done[name] = max(self.done[name], min(stop, len(self.qualities[name])))


def shuffled(models, rng):
    orders = {name: rng.permutation(len(models[0][name])) for name in SETS}
    return [{name: model[name][orders[name]] for name in SETS} for model in models]


def against(trial, known, rule, best):
    """The trial's evaluation and why it was stopped, against a best score and models whose slices are known."""
    found = Slices(trial)
    controls = {name: np.array([model[name] for model in known]) for name in SETS}
    return found, decide(found, controls, rule, best)


def just_better_is_lost(trial, known, rule, rng):
    """Whether a trial is stopped that is feasible and better, each by 1e-9; ``known`` has the untouched model first."""
    score = rule(*(trial[name].mean() for name in SETS))
    rule = replace(rule, min_retained=max(0.0, score.retained - 1e-9))
    trial, *known = shuffled([trial, *known], rng)
    return against(trial, known, rule, Score(score.value - 1e-9, 1.0, 0.0, 0.0))[1] is not None


def at_most(share, tries):
    """Most of so many tries that are credible (99.9 %) at this share."""
    return stats.binom.ppf(0.999, tries, share)


def noises(kind, n, rng):
    """(n,) what the slices of a trial lose beyond what the known models explain; larger where it is rarer."""
    if kind == "normal":
        return 0.03 * rng.standard_normal(n)
    if kind == "skewed":
        return 0.03 * rng.exponential(1, n)
    if kind == "heavy":
        return np.clip(0.03 * rng.standard_t(2, n), -0.3, 0.3)
    return np.repeat(0.04 * rng.standard_normal(-(-n // 8)), 8)[:n] + 0.01 * rng.standard_normal(n)


def synthetic(kind, rng):
    """A trial, the untouched model and an incumbent; the rare slices of a skewed trial speak for it."""
    if kind == "binary":
        shares = {"retain": (0.9, 0.97, 0.93), "forget": (0.15, 0.95, 0.2)}
        return [
            {name: (rng.permutation(n) < share[i] * n).astype(float) for name, share in shares.items() for n in (60,)}
            for i in range(3)
        ]
    models = [{}, {}, {}]
    for name, n, sign in (("retain", 60, 1), ("forget", 40, -1)):
        base = np.clip(0.7 + 0.06 * rng.standard_normal(n), 0, 1)
        noisy = (0.85 * base + sign * noises(kind, n, rng), base, 0.9 * base + 0.02 * rng.standard_normal(n))
        for model, values in zip(models, noisy, strict=True):
            model[name] = np.clip(values, 0, 1)
    return models


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy", "volumes", "binary"])
def test_a_trial_just_better_is_lost_no_more_often_than_stated(kind):
    rng, tries, lost = np.random.default_rng(1), 300, 0
    for _ in range(tries // 10):
        trial, *known = synthetic(kind, rng)
        rule = ScoreRule(known[0]["retain"].mean(), known[0]["forget"].mean(), 0.1)
        lost += sum(just_better_is_lost(trial, known, rule, rng) for _ in range(10))
    assert lost <= at_most(ERROR, tries)


@pytest.fixture(scope="module")
def recorded():
    """(rule, models) of each recorded task, the untouched model first."""
    tasks = []
    with np.load(RECORDED) as data:
        for key in dict.fromkeys(name.rpartition("/")[0] for name in data):
            columns = [data[f"{key}/{name}"].astype(float) for name in SETS]
            models = [dict(zip(SETS, pair, strict=True)) for pair in zip(*columns, strict=True)]
            rule = ScoreRule(*(models[0][name].mean() for name in SETS), floor=float(data[f"{key}/floor"]))
            tasks.append((rule, models))
    return tasks


def test_on_recorded_slices_too(recorded):
    assert len(recorded) >= 10
    rng, lost, tries = np.random.default_rng(2), 0, 0
    for rule, models in recorded:
        scores = [rule(*(model[name].mean() for name in SETS)) for model in models]
        ranked = sorted((i for i, s in enumerate(scores) if s.feasible), key=lambda i: scores[i].value)
        for low, high in list(pairwise(ranked))[-3:]:
            for _ in range(20):
                lost += just_better_is_lost(models[high], [models[0], models[low]], rule, rng)
                tries += 1
    assert tries >= 300
    assert lost <= at_most(ERROR, tries)


def test_estimates_of_stopped_trials_come_with_errors_that_cover(recorded):
    rng, inside, wider = np.random.default_rng(3), [], []
    for rule, models in recorded:
        best = rule(*(models[1][name].mean() for name in SETS))
        for trial in models[2:]:
            for _ in range(3):
                now, *known = shuffled([trial, models[0], models[1]], rng)
                found, reason = against(now, known, rule, best)
                for name in SETS if reason else ():
                    controls = np.array([model[name] for model in known])
                    estimate = estimate_mean(found.quality(name), controls, slice(0, found.done[name]))
                    error = abs(estimate.mean - trial[name].mean())
                    inside.append(error <= 1.96 * estimate.se + 1e-9)
                    wider.append(error <= 1.96 * STOPPED_SE * estimate.se + 1e-9)
    assert len(inside) > 200
    assert np.mean(inside) < 0.94 < np.mean(wider)


def test_the_error_is_spent_on_all_looks_that_a_set_has():
    assert [looks(total) for total in (5, 8, 9, 12, 13, 60, 200)] == [0, 0, 1, 1, 2, 5, 8]


def test_the_error_is_spent_on_all_looks_together(monkeypatch):
    """Without the allowance for skewness, which would hide it: bounds of normal slices fail at no look."""
    monkeypatch.setattr("ssdtune.objective.estimate.SKEW", 0.0)
    rng, tries, failed = np.random.default_rng(0), 2000, 0
    for _ in range(tries):
        quality, seen = rng.normal(size=200), FIRST_LOOK
        truth = quality.mean()
        while seen < len(quality):
            estimate = estimate_mean(quality[:seen], np.empty((0, len(quality))), slice(0, seen))
            if _bounds(estimate)[1] < truth:
                failed += 1
                break
            seen = math.ceil(seen * GROWTH)
    assert failed <= at_most(ERROR / 2, tries)
