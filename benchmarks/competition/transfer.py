"""The transfer prior on methods beside SSD: which recorded setting to try next, on tasks of families not seen.

A task's candidates are the settings at which its response was recorded, and regret is to the best of them; so nothing
is interpolated, and nothing beyond them can be found. What is foreseen comes from networks that have seen no task of
the family. Ablations hide what the spectrum says from them; each is fitted as often as what it is compared with.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.competition.priors import AVERAGE, FITS
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import SETTINGS, progress
from benchmarks.competition.tables import ABLATED, in_words, regret_metrics, with_interval
from benchmarks.harness import Metrics
from benchmarks.mapper import average
from ssdtune.arrays import Array
from ssdtune.learning.fit_methods import RECIPE, Rows, predict_rows, rows_of
from ssdtune.prior.calibration import HeldOut, residual_by_level, sd_at
from ssdtune.prior.experience import Experience
from ssdtune.prior.method_inputs import METHOD_INPUTS
from ssdtune.report.regret import area_under_regret
from ssdtune.surrogate.belief import squash
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief, Seen
from ssdtune.unlearning.methods import find_method

TRIALS, SHOWN, ORDERS = 10, (1, 3, 5, 10), 20
IN_UNITS = ("relative", "first", "second")
"""What inputs that come from the spectrum have in their names."""

TRANSFER = "transfer"


def _same(method: str, record: Experience, rows: Rows) -> Rows:
    return rows


def _no_features(method: str, record: Experience, rows: Rows) -> Rows:
    """The features of the analysis are the same as of all other tasks."""
    return replace(rows, features=dict.fromkeys(rows.features, 0.5))


def _no_units(method: str, record: Experience, rows: Rows) -> Rows:
    """Nor is anything told in units of the task, or of what is predicted of it."""
    hidden = np.array([any(word in name for word in IN_UNITS) for name in METHOD_INPUTS[method].local])
    return replace(rows, local=np.where(hidden, 0.0, rows.local))


def _coordinates(method: str, record: Experience, rows: Rows) -> Rows:
    return _no_units(method, record, _no_features(method, record, rows))


def _absolute(method: str, record: Experience, rows: Rows) -> Rows:
    """mu as a damping of the retain Fisher matrix, not over its largest eigenvalue."""
    names = list(METHOD_INPUTS[method].local)
    local = rows.local.copy()
    local[:, names.index("log10_mu")] += np.log10(record.scales["largest_eigenvalue"])
    return replace(rows, local=local)


ABLATIONS: dict[str, Callable[[str, Experience, Rows], Rows]] = {
    "no-features": _no_features,
    "no-units": _no_units,
    "coordinates-only": _coordinates,
    "absolute-mu": _absolute,
}
ABLATED_OF = {"spectral": ("coordinates-only", "absolute-mu"), "ssd-repair": ("coordinates-only",)}
"""Those that hide something of a method's own inputs, each something else; of other methods the first three."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """The responses of all tasks to one method: places (n, D) and rows of each."""

    method: str
    records: Sequence[Experience]
    rows: Sequence[Rows]
    places: Sequence[Array]

    @classmethod
    def of(cls, method: str, records: Sequence[Experience]) -> Recorded:
        own = [record for record in records if method in record.responses]
        rows = [rows_of(record, method) for record in own]
        return cls(method, own, rows, [places_of(method, record.responses[method].knobs) for record in own])

    def scores(self, goal: Goal) -> list[Array]:
        """s of every candidate of every task, that of the untouched model where it is not feasible."""
        return [np.where(goal.feasible(each.y[:, 0]), goal.score(*each.y.T), goal.untouched) for each in self.rows]


def measure_transfer(chosen: argparse.Namespace, replays: Sequence[Replay], lines: list[str]) -> Metrics:
    """Every method of which the collection has responses, under every goal."""
    records = [replay.experience for replay in replays]
    metrics: Metrics = {}
    for method in METHOD_INPUTS:
        recorded = Recorded.of(method, records)
        if recorded.rows:
            metrics |= measure_method(recorded, chosen, lines)
    if not metrics:
        raise SystemExit(f"error: no responses beside SSD's, {chosen.collection}, give a collection that has them")
    return metrics


def measure_method(recorded: Recorded, chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    """Regrets of every way to choose, on every task."""
    method, fits = recorded.method, 1 if chosen.quick else FITS
    recipe = replace(RECIPE, networks=1, epochs=20) if chosen.quick else RECIPE
    names = () if chosen.quick else ablations_of(method)
    foreseen: dict[str, list[Sequence[Foreseen]]] = {}
    for name in (TRANSFER, *names):
        shown = [
            ABLATIONS.get(name, _same)(method, *each) for each in zip(recorded.records, recorded.rows, strict=True)
        ]
        foreseen[name] = [
            beliefs(predict_rows(method, shown, seed=seed, recipe=recipe), recorded)
            for seed in range(chosen.seed, chosen.seed + fits)
        ]
        progress(f"{method}: {name} learned")
    if not chosen.quick:
        foreseen[AVERAGE] = [beliefs(averages(recorded), recorded)]
    own = find_method(method)
    published = len(own.published(own.Options()))
    metrics: Metrics = {f"{method}.tasks": len(recorded.rows)}
    for setting, goal in SETTINGS.items():
        scores = recorded.scores(goal)
        regrets = {
            TRANSFER: searched(foreseen[TRANSFER], recorded, goal, TRIALS),
            "no-members": searched([[None] * len(scores)], recorded, goal, TRIALS),
            "published": np.stack([mean_regret(s, goal, published, chosen.seed) for s in scores]),
            "random": np.stack([mean_regret(s, goal, 0, chosen.seed) for s in scores]),
        }
        ablated = {n: searched(foreseen[n], recorded, goal, ABLATED) for n in foreseen if n != TRANSFER}
        metrics |= report(f"{method}.{setting}", regrets, ablated, lines)
    return metrics


def ablations_of(method: str) -> tuple[str, ...]:
    """Names of what is hidden from a method's networks, one thing at a time."""
    return ABLATED_OF.get(method, tuple(ABLATIONS)[:3])


def places_of(method: str, knobs: Mapping[str, Array]) -> Array:
    """(n, D) recorded settings in the unit cube of the method's default ranges."""
    own = find_method(method)
    return np.stack([[knob.share(v) for v in knobs[knob.name]] for knob in own.knobs(own.Options())], axis=1)


def averages(recorded: Recorded) -> list[HeldOut]:
    """Of every task the mean response of tasks of other families, at nearby settings."""
    found = []
    for each, places in zip(recorded.rows, recorded.places, strict=True):
        others = [n for n, other in enumerate(recorded.rows) if other.family != each.family]
        there = np.concatenate([recorded.places[n] for n in others])
        y = np.concatenate([squash(recorded.rows[n].y) for n in others])
        found.append(HeldOut(average(places, there, y)[None], squash(each.y), each.local))
    return found


def residuals(found: Sequence[HeldOut], families: Sequence[str]) -> dict[str, Array]:
    """For each family the residual of what was foreseen of tasks of other families, by level."""
    return {
        family: residual_by_level([each for each, other in zip(found, families, strict=True) if other != family])
        for family in set(families)
    }


def beliefs(found: Sequence[HeldOut], recorded: Recorded) -> list[Foreseen]:
    """What is foreseen of every task, its residual measured on tasks of other families."""
    families = [each.family for each in recorded.rows]
    residual = residuals(found, families)
    beliefs = []
    for each, family, places in zip(found, families, recorded.places, strict=True):
        members = np.moveaxis(each.members, 1, 2)
        beliefs.append(Foreseen(places, members, sd_at(residual[family], members.mean(axis=0)), 1.0))
    return beliefs


def searched(foreseen: Sequence[Sequence[Foreseen | None]], recorded: Recorded, goal: Goal, trials: int) -> Array:
    """(tasks, trials) regret of the search around what is foreseen, a mean over fits."""
    scores = recorded.scores(goal)
    fits = [
        [search(*each, goal, trials) for each in zip(own, recorded.places, recorded.rows, scores, strict=True)]
        for own in foreseen
    ]
    found: Array = np.mean(fits, axis=0)
    return found


def search(foreseen: Foreseen | None, places: Array, rows: Rows, s: Array, goal: Goal, trials: int) -> Array:
    """(trials,) regret after each trial of always taking the largest expected improvement."""
    taken: list[int] = []
    best, found = goal.untouched, []
    for _ in range(trials):
        seen = Seen(places[taken], rows.y[taken].T.reshape(2, -1), np.zeros((2, len(taken))))
        gain = KnobBelief(foreseen, goal, seen, best).improvement(places)
        gain[taken] = -1.0
        taken.append(int(gain.argmax()))
        best = max(best, float(s[taken[-1]]))
        found.append(float(s.max()) - best)
    return np.array(found)


def mean_regret(s: Array, goal: Goal, first: int, seed: int) -> Array:
    """(TRIALS,) of the first settings in their order and then the others in any, a mean over orders."""
    rng = np.random.default_rng(seed)
    orders = [np.append(np.arange(first), first + rng.permutation(len(s) - first)) for _ in range(ORDERS)]
    best = np.maximum(np.maximum.accumulate(s[np.array(orders)], axis=1)[:, :TRIALS], goal.untouched)
    return np.asarray((s.max() - best).mean(axis=0))


def report(prefix: str, regrets: dict[str, Array], ablated: dict[str, Array], lines: list[str]) -> Metrics:
    """Metrics and the table of one method and goal."""
    metrics, rows = regret_metrics(prefix, regrets, SHOWN, "first trials by")
    saved = regrets["published"][:, 2] - regrets[TRANSFER][:, 2]
    metrics |= with_interval(f"{prefix}.gain_3", saved, np.mean)
    lines += ["", f"`{prefix}`, {len(saved)} tasks:", ""]
    lines += rows
    words = in_words(metrics, f"{prefix}.gain_3")
    lines.append(f"\nThree trials by the prior rather than by the published settings save {words}.")
    whole = area_under_regret(regrets[TRANSFER], ABLATED)
    deltas = []
    for name, regret in ablated.items():
        key = f"{prefix}.ablation.{name}.delta"
        metrics |= with_interval(key, area_under_regret(regret, ABLATED) - whole, np.mean)
        deltas.append(f"{name} {in_words(metrics, key)}")
    if deltas:
        lines.append(f"\nMean regret over {ABLATED} trials minus that of {TRANSFER}: {'; '.join(deltas)}.")
    return metrics
