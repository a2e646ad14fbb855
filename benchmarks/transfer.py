"""The transfer prior on methods beside SSD: which recorded setting to try next, on tasks of families not seen.

A task's candidates are the settings at which its response was recorded, and regret is to the best of them; so nothing
is interpolated, and nothing beyond them can be found. `transfer` is the belief that the sampler has, from networks that
have seen no task of the family; `no-members` is it without them; `published` tries the published settings and then any
order, `random` any order (the mean of 20), which is what TPE does with its first ten trials. Ablations leave out what
the spectrum says: `no-features` those of the analysis; `no-units` the knobs in units of the task and predicted loss
changes; `knobs` both. In the JSON, `METHOD.regret.NAME.N` after N trials and `METHOD.median_trials.NAME` to within 0.01
of the best (candidates + 1 where the median task never arrives), with 95 % intervals over tasks (`.lo`, `.hi`);
`METHOD.gain_3` is what the prior saves against the published settings after three trials, paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.competition.held_out import read_replays
from benchmarks.harness import Metrics, main, table
from benchmarks.outcome.tables import interval
from ssdtune.arrays import Array
from ssdtune.learning.fit_methods import RECIPE, Rows, predict_rows, rows_of
from ssdtune.prior.calibration import HeldOut, residual_by_level, sd_at
from ssdtune.prior.experience import BUNDLED
from ssdtune.prior.method_inputs import METHOD_INPUTS
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief, Seen
from ssdtune.unlearning.methods import find_method

GOAL = Goal(0.2, 0.95)
TRIALS, SHOWN, ORDERS = 10, (1, 3, 5, 10), 20
CLOSE = 0.01
IN_UNITS = ("relative", "first", "second")
"""What inputs that come from the spectrum have in their names."""

VARIANTS = {"transfer": (False, False), "no-features": (True, False), "no-units": (False, True), "knobs": (True, True)}
"""Without the features; without the units."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collection", type=Path, default=BUNDLED, metavar="FILE", help="or a folder of parts")
    parser.add_argument("--methods", default=",".join(METHOD_INPUTS), metavar="M,M")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    records = [replay.experience for replay in read_replays(chosen.collection)[0]]
    metrics: Metrics = {}
    for method in chosen.methods.split(","):
        own = [record for record in records if method in record.responses]
        if not own:
            raise SystemExit(f"error: no responses to {method}, {chosen.collection}, give a collection that has them")
        rows = [rows_of(record, method) for record in own]
        places = [places_of(method, record.responses[method].knobs) for record in own]
        metrics |= measure_method(method, rows, places, chosen, lines)
    return metrics


def measure_method(
    method: str, rows: Sequence[Rows], places: Sequence[Array], chosen: argparse.Namespace, lines: list[str]
) -> Metrics:
    """Regrets of every way to choose, on every task."""
    scores = [np.where(GOAL.feasible(each.y[:, 0]), GOAL.score(*each.y.T), GOAL.untouched) for each in rows]
    published = len(find_method(method).published(find_method(method).Options()))
    regrets = {
        name: np.stack([mean_regret(s, first, chosen.seed) for s in scores])
        for name, first in (("published", published), ("random", 0))
    }
    alone = [search(None, place, each.y, s) for place, each, s in zip(places, rows, scores, strict=True)]
    regrets["no-members"] = np.stack(alone)
    for name, (featureless, unitless) in VARIANTS.items():
        if chosen.quick and name != "transfer":
            continue
        told = [without(method, each, featureless, unitless) for each in rows]
        recipe = replace(RECIPE, networks=1, epochs=20) if chosen.quick else RECIPE
        foreseen = predict_rows(method, told, seed=chosen.seed, recipe=recipe)
        regrets[name] = np.stack(
            [
                search(belief_of(foreseen, rows, number, places[number]), places[number], rows[number].y, s)
                for number, s in enumerate(scores)
            ]
        )
    return report(method, regrets, lines)


def places_of(method: str, knobs: Mapping[str, Array]) -> Array:
    """(n, D) recorded settings in the unit cube of the method's default ranges."""
    own = find_method(method)
    return np.stack([[knob.share(v) for v in knobs[knob.name]] for knob in own.knobs(own.Options())], axis=1)


def without(method: str, rows: Rows, featureless: bool, unitless: bool) -> Rows:
    """A task of which some inputs are the same as of all others."""
    names = METHOD_INPUTS[method].local
    hidden = np.array([unitless and any(word in name for word in IN_UNITS) for name in names])
    features = dict.fromkeys(rows.features, 0.5) if featureless else rows.features
    return replace(rows, local=np.where(hidden, 0.0, rows.local), features=features)


def belief_of(foreseen: Sequence[HeldOut], rows: Sequence[Rows], number: int, places: Array) -> Foreseen:
    """What is foreseen of one task, its residual measured on tasks of other families."""
    others = [f for f, each in zip(foreseen, rows, strict=True) if each.family != rows[number].family]
    members = np.moveaxis(foreseen[number].members, 1, 2)
    return Foreseen(places, members, sd_at(residual_by_level(others), members.mean(axis=0)), 1.0)


def search(foreseen: Foreseen | None, places: Array, y: Array, s: Array) -> Array:
    """(TRIALS,) regret after each trial of always taking the largest expected improvement."""
    taken: list[int] = []
    best, found = GOAL.untouched, []
    for _ in range(min(TRIALS, len(s))):
        seen = Seen(places[taken], y[taken].T.reshape(2, -1), np.zeros((2, len(taken))))
        gain = KnobBelief(foreseen, GOAL, seen, best).improvement(places)
        gain[taken] = -1.0
        taken.append(int(gain.argmax()))
        best = max(best, float(s[taken[-1]]))
        found.append(float(s.max()) - best)
    return np.array(found)


def mean_regret(s: Array, first: int, seed: int) -> Array:
    """(TRIALS,) of the first settings in their order and then the others in any, a mean over orders."""
    rng = np.random.default_rng(seed)
    orders = [np.append(np.arange(first), first + rng.permutation(len(s) - first)) for _ in range(ORDERS)]
    best = np.maximum(np.maximum.accumulate(s[np.array(orders)], axis=1)[:, :TRIALS], GOAL.untouched)
    return np.asarray((s.max() - best).mean(axis=0))


def report(method: str, regrets: dict[str, Array], lines: list[str]) -> Metrics:
    """Metrics and the table of one method."""
    metrics: Metrics = {f"{method}.tasks": len(next(iter(regrets.values())))}
    body = []
    for name, regret in regrets.items():
        trials = np.where((regret <= CLOSE).any(axis=1), (regret <= CLOSE).argmax(axis=1) + 1, TRIALS + 1)
        metrics |= with_interval(f"{method}.median_trials.{name}", trials, np.median)
        for n in SHOWN:
            metrics |= with_interval(f"{method}.regret.{name}.{n}", regret[:, n - 1], np.mean)
        row = [f"{method}.median_trials.{name}", *(f"{method}.regret.{name}.{n}" for n in SHOWN)]
        body.append((name, *(in_words(metrics, key) for key in row)))
    metrics |= with_interval(f"{method}.gain_3", regrets["published"][:, 2] - regrets["transfer"][:, 2], np.mean)
    lines += ["", f"`{method}`, {metrics[f'{method}.tasks']} tasks:", ""]
    lines += table(("first trials by", "trials to within 0.01", *(f"regret after {n}" for n in SHOWN)), body)
    saved = in_words(metrics, f"{method}.gain_3")
    lines.append(f"\nThree trials by the prior rather than by the published settings save {saved}.")
    return metrics


def in_words(metrics: Metrics, key: str) -> str:
    """A metric with its interval, in words."""
    return f"{metrics[key]:.3g} ({metrics[key + '.lo']:.3g} … {metrics[key + '.hi']:.3g})"


def with_interval(name: str, values: Array, statistic: Callable[..., Any]) -> Metrics:
    """A statistic over tasks and its 95 % bootstrap interval."""
    low, high = interval(values, statistic)
    return {name: float(statistic(values)), f"{name}.lo": low, f"{name}.hi": high}


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
