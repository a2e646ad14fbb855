"""The transfer prior on methods beside SSD: which recorded setting to try next, on tasks of families not seen.

A task's candidates are the settings at which its response was recorded, and regret is to the best of them; so nothing
is interpolated, and nothing beyond them can be found. What is foreseen comes from networks that have seen no task of
the family. Ablations hide what the spectrum says from them; each is fitted as often as what it is compared with. Wrong
priors are those of ``misled``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.competition.bounded import own_turns
from benchmarks.competition.hidden import ABLATED_OF, ABLATIONS, nothing
from benchmarks.competition.misled import Named, decade_of, wrong_priors
from benchmarks.competition.priors import AVERAGE, FITS
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import SETTINGS, progress
from benchmarks.competition.tables import ABLATED
from benchmarks.competition.transfer_tables import ALONE, PUBLISHED, RANDOM, TRANSFER, TRIALS, report
from benchmarks.harness import Metrics
from benchmarks.mapper import average
from ssdtune.arrays import Array
from ssdtune.learning.fit_methods import RECIPE, Rows, predict_rows, rows_of
from ssdtune.prior.calibration import HeldOut, residual_by_level, sd_at
from ssdtune.prior.experience import Experience
from ssdtune.prior.method_inputs import METHOD_INPUTS
from ssdtune.surrogate.belief import squash
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief, Seen
from ssdtune.unlearning.methods import find_method

ORDERS = 20
CAUTION = 0.02


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

    def named(self, foreseen: Sequence[Foreseen], goal: Goal) -> list[Named]:
        """Every task with what is foreseen of it."""
        own = zip(self.rows, self.scores(goal), foreseen, strict=True)
        return [Named(rows.key, rows.family, s, each) for rows, s, each in own]


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
    names = () if chosen.quick else ABLATED_OF[method]
    foreseen: dict[str, list[Sequence[Foreseen]]] = {}
    for name in (TRANSFER, *names):
        shown = [
            ABLATIONS.get(name, nothing)(method, *each) for each in zip(recorded.records, recorded.rows, strict=True)
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
    decade = decade_of(own.knobs(own.Options())[0])
    metrics: Metrics = {f"{method}.tasks": len(recorded.rows)}
    for setting, goal in SETTINGS.items():
        scores = recorded.scores(goal)
        runs = {
            TRANSFER: searched(foreseen[TRANSFER], recorded, goal, TRIALS),
            ALONE: searched([[None] * len(scores)], recorded, goal, TRIALS),
            PUBLISHED: np.stack([mean_regret(s, goal, published, chosen.seed) for s in scores])[:, None],
            RANDOM: np.stack([mean_regret(s, goal, 0, chosen.seed) for s in scores])[:, None],
        }
        ablated = {n: searched(foreseen[n], recorded, goal, ABLATED) for n in foreseen if n != TRANSFER}
        ways = {**BOUNDED, "cautious": search_cautious}
        remedied = {name: searched(foreseen[TRANSFER], recorded, goal, TRIALS, way) for name, way in ways.items()}
        remedied["together"] = searched([together(foreseen[TRANSFER])], recorded, goal, TRIALS)
        wrong = {
            kind: {
                name: searched([priors], recorded, goal, TRIALS, way)
                for name, way in {TRANSFER: search, **BOUNDED}.items()
            }
            for kind, priors in wrong_priors(recorded.named(foreseen[TRANSFER][0], goal), goal, decade).items()
        }
        metrics |= report(f"{method}.{setting}", runs, remedied, ablated, wrong, lines)
    return metrics


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


def search(foreseen: Foreseen | None, places: Array, rows: Rows, s: Array, goal: Goal, trials: int) -> Array:
    """(trials,) regret after each trial of always taking the largest expected improvement."""
    tried: list[int] = []
    for _ in range(trials):
        tried.append(choose(foreseen, places, rows, s, goal, tried))
    return regret_after(tried, s, goal)


def search_guarded(foreseen: Foreseen | None, places: Array, rows: Rows, s: Array, goal: Goal, trials: int) -> Array:
    """As ``search``, but at ``own_turns`` a search that assumes nothing takes its next step; what has been tried
    costs it no trial."""
    tried: list[int] = []
    alone: list[int] = []
    turns = own_turns(trials)
    for number in range(trials):
        if number not in turns:
            tried.append(choose(foreseen, places, rows, s, goal, tried))
            continue
        alone.append(choose(None, places, rows, s, goal, alone))
        while alone[-1] in tried:
            alone.append(choose(None, places, rows, s, goal, alone))
        tried.append(alone[-1])
    return regret_after(tried, s, goal)


def search_doubting(foreseen: Foreseen, places: Array, rows: Rows, s: Array, goal: Goal, trials: int) -> Array:
    """As ``search``, but with half the trust."""
    return search(foreseen._replace(trust=foreseen.trust / 2), places, rows, s, goal, trials)


def search_cautious(foreseen: Foreseen, places: Array, rows: Rows, s: Array, goal: Goal, trials: int) -> Array:
    """As ``search``, but the first trial is to keep ``CAUTION`` more than is asked for, where something is."""
    asked = replace(goal, min_retained=min(goal.min_retained + CAUTION, 1.0) if goal.min_retained else 0.0)
    tried = [choose(foreseen, places, rows, s, asked, [])]
    for _ in range(trials - 1):
        tried.append(choose(foreseen, places, rows, s, goal, tried))
    return regret_after(tried, s, goal)


def together(fits: Sequence[Sequence[Foreseen]]) -> list[Foreseen]:
    """Of every task the members of all fits in one ensemble."""
    found = []
    for own in zip(*fits, strict=True):
        members = np.concatenate([each.members for each in own])
        found.append(own[0]._replace(members=members, residual_sd=np.mean([each.residual_sd for each in own], axis=0)))
    return found


BOUNDED: dict[str, Callable[..., Array]] = {"guarded": search_guarded, "half-trust": search_doubting}
"""Two remedies against a prior that is a trap."""


def choose(foreseen: Foreseen | None, places: Array, rows: Rows, s: Array, goal: Goal, tried: Sequence[int]) -> int:
    """The number of the place of largest expected improvement that has not been tried."""
    taken = list(tried)
    seen = Seen(places[taken], rows.y[taken].T.reshape(2, -1), np.zeros((2, len(taken))))
    gain = KnobBelief(foreseen, goal, seen, max(goal.untouched, s[taken].max(initial=0))).improvement(places)
    gain[taken] = -1.0
    return int(gain.argmax())


def regret_after(tried: Sequence[int], s: Array, goal: Goal) -> Array:
    """(trials,) of the best place so far, the untouched model at first."""
    return np.asarray(s.max() - np.maximum(np.maximum.accumulate(s[list(tried)]), goal.untouched))


def searched(
    foreseen: Sequence[Sequence[Foreseen | None]],
    recorded: Recorded,
    goal: Goal,
    trials: int,
    way: Callable[..., Array] = search,
) -> Array:
    """(tasks, fits, trials) regret of a way to search around what is foreseen."""
    scores = recorded.scores(goal)
    fits = [
        [way(*each, goal, trials) for each in zip(own, recorded.places, recorded.rows, scores, strict=True)]
        for own in foreseen
    ]
    return np.stack(fits, axis=1)


def mean_regret(s: Array, goal: Goal, first: int, seed: int) -> Array:
    """(TRIALS,) of the first settings in their order and then the others in any, a mean over orders."""
    rng = np.random.default_rng(seed)
    orders = [np.append(np.arange(first), first + rng.permutation(len(s) - first)) for _ in range(ORDERS)]
    best = np.maximum(np.maximum.accumulate(s[np.array(orders)], axis=1)[:, :TRIALS], goal.untouched)
    return np.asarray((s.max() - best).mean(axis=0))
