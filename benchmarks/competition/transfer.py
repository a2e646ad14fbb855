"""The transfer prior on methods beside SSD: which recorded setting to try next, on tasks of families not seen.

A task's candidates are the settings at which its response was recorded, as far as they lie within the method's default
ranges, and regret is to the best of them; so nothing is interpolated, and nothing beyond them can be found. What is
foreseen comes from networks that have seen no task of the family. Ablations hide what the spectrum says from them; each
is fitted as often as what it is compared with. Wrong priors are those of ``misled``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.competition.hidden import ABLATED_OF, ABLATIONS, Hide, nothing
from benchmarks.competition.misled import Named, decade_of, wrong_priors
from benchmarks.competition.priors import AVERAGE, FITS
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import HALF_TRUST, SETTINGS, UNGUARDED, in_processes, progress, start_process
from benchmarks.competition.tables import ABLATED
from benchmarks.competition.transfer_tables import ALONE, PUBLISHED, RANDOM, TRANSFER, TRIALS, report
from benchmarks.harness import Metrics
from benchmarks.mapper import average
from ssdtune.arrays import Array
from ssdtune.learning.fit_methods import RECIPE, Rows, predict_rows, rows_of
from ssdtune.learning.training import Recipe
from ssdtune.prior.calibration import HeldOut, residual_by_level, sd_at
from ssdtune.prior.experience import Experience
from ssdtune.prior.method_inputs import METHOD_INPUTS
from ssdtune.samplers.guard import is_unled
from ssdtune.surrogate.belief import squash
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief, Seen
from ssdtune.unlearning.methods import find_method

ORDERS = 20
LONG = 20  # trials, for those that take long; tables show the first ten
CAUTION = 0.02
_ULPS = 1e-9


@dataclass(frozen=True, eq=False)
class Recorded:
    """The responses of all tasks to one method: rows, of the settings ``inside`` (N,) the method's ranges n, and their
    places (n, D)."""

    method: str
    records: Sequence[Experience]
    rows: Sequence[Rows]
    places: Sequence[Array]
    inside: Sequence[NDArray[np.bool_]]

    @classmethod
    def of(cls, method: str, records: Sequence[Experience]) -> Recorded:
        own = [record for record in records if method in record.responses]
        places = [places_of(method, record.responses[method].knobs) for record in own]
        inside = [np.asarray(((each > -_ULPS) & (each < 1 + _ULPS)).all(axis=1)) for each in places]
        rows = [rows_of(record, method) for record in own]
        rows = [replace(each, local=each.local[ok], y=each.y[ok]) for each, ok in zip(rows, inside, strict=True)]
        return cls(method, own, rows, [each[ok] for each, ok in zip(places, inside, strict=True)], inside)

    def foreseen(self, hide: Hide, seed: int, recipe: Recipe) -> list[Foreseen]:
        """Of every task, by networks that have seen no task of its family, but all their settings."""
        shown = [hide(self.method, record, rows_of(record, self.method)) for record in self.records]
        found = predict_rows(self.method, shown, seed=seed, recipe=recipe)
        held_out = [
            HeldOut(each.members[:, ok], each.y[ok], each.z[ok]) for each, ok in zip(found, self.inside, strict=True)
        ]
        return beliefs(held_out, self)

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
    known = [method for method in METHOD_INPUTS if any(method in record.responses for record in records)]
    if not known:
        raise SystemExit(f"error: no responses beside SSD's, {chosen.collection}, give a collection that has them")
    metrics: Metrics = {}
    work = [(method, records, chosen) for method in known]
    for own, words in in_processes(measure_method, work, chosen.workers, start_process, chunk=1):
        metrics |= own
        lines += words
    return metrics


def measure_method(work: tuple[str, Sequence[Experience], argparse.Namespace]) -> tuple[Metrics, list[str]]:
    """Regrets of every way to choose, on every task, and the tables in words."""
    method, records, chosen = work
    recorded, lines = Recorded.of(method, records), list[str]()
    fits = 1 if chosen.quick else FITS
    recipe = replace(RECIPE, networks=1, epochs=20) if chosen.quick else RECIPE
    names = () if chosen.quick else ABLATED_OF[method]
    foreseen: dict[str, list[Sequence[Foreseen]]] = {}
    for name in (TRANSFER, *names):
        hide = nothing if name == TRANSFER else ABLATIONS[name]
        foreseen[name] = [recorded.foreseen(hide, seed, recipe) for seed in range(chosen.seed, chosen.seed + fits)]
        progress(f"{method}: {name} learned")
    if not chosen.quick:
        foreseen[AVERAGE] = [beliefs(averages(recorded), recorded)]
    own = find_method(method)
    published = len(own.published(own.Options()))
    decade = decade_of(own.knobs(own.Options())[0])
    metrics: Metrics = {f"{method}.tasks": len(recorded.rows)}
    for setting, goal in SETTINGS.items():
        scores = recorded.scores(goal)
        ways = {**TOLD, **({"cautious": search_cautious} if goal.min_retained else {})}
        runs = {name: searched(foreseen[TRANSFER], recorded, goal, LONG, way) for name, way in ways.items()}
        runs["together"] = searched([together(foreseen[TRANSFER])], recorded, goal, LONG, search_guarded)
        runs[ALONE] = searched([[None] * len(scores)], recorded, goal, LONG)
        runs[PUBLISHED] = np.stack([in_any_order(s, goal, published, chosen.seed) for s in scores])
        runs[RANDOM] = np.stack([in_any_order(s, goal, 0, chosen.seed) for s in scores])
        ablated = {n: searched(foreseen[n], recorded, goal, ABLATED) for n in foreseen if n != TRANSFER}
        wrong = {
            kind: {name: searched([priors], recorded, goal, TRIALS, way) for name, way in TOLD.items()}
            for kind, priors in wrong_priors(recorded.named(foreseen[TRANSFER][0], goal), goal, decade).items()
        }
        metrics |= report(f"{method}.{setting}", runs, ablated, wrong, lines)
    return metrics, lines


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
    for _ in range(min(trials, len(s))):
        tried.append(choose(foreseen, places, rows, s, goal, tried))
    return regret_after(tried, s, goal, trials)


def search_guarded(
    foreseen: Foreseen | None, places: Array, rows: Rows, s: Array, goal: Goal, trials: int, first: Goal | None = None
) -> Array:
    """As ``search``, but at its turns a search that assumes nothing takes its next step, as ``KnobSampler`` does: where
    that has been tried, the turn is left to the other. ``first`` is the goal of the first trial, if it is another."""
    tried: list[int] = []
    alone: list[int] = []
    for number in range(min(trials, len(s))):
        if is_unled(number):
            alone.append(choose(None, places, rows, s, goal, alone))
        if is_unled(number) and alone[-1] not in tried:
            tried.append(alone[-1])
        else:
            tried.append(choose(foreseen, places, rows, s, goal if number or first is None else first, tried))
    return regret_after(tried, s, goal, trials)


def search_doubting(foreseen: Foreseen, places: Array, rows: Rows, s: Array, goal: Goal, trials: int) -> Array:
    """As ``search_guarded``, but with half the trust."""
    return search_guarded(foreseen._replace(trust=foreseen.trust / 2), places, rows, s, goal, trials)


def search_cautious(foreseen: Foreseen, places: Array, rows: Rows, s: Array, goal: Goal, trials: int) -> Array:
    """As ``search_guarded``, but the first trial is to keep ``CAUTION`` more than is asked for, where something is."""
    asked = replace(goal, min_retained=min(goal.min_retained + CAUTION, 1.0) if goal.min_retained else 0.0)
    return search_guarded(foreseen, places, rows, s, goal, trials, asked)


def together(fits: Sequence[Sequence[Foreseen]]) -> list[Foreseen]:
    """Of every task the members of all fits in one ensemble."""
    found = []
    for own in zip(*fits, strict=True):
        members = np.concatenate([each.members for each in own])
        found.append(own[0]._replace(members=members, residual_sd=np.mean([each.residual_sd for each in own], axis=0)))
    return found


TOLD: dict[str, Callable[..., Array]] = {
    TRANSFER: search_guarded,
    UNGUARDED: search,
    HALF_TRUST: search_doubting,
}
"""Searches with a prior: as the sampler does, with all trials the prior's, and with half the trust in it."""


def choose(foreseen: Foreseen | None, places: Array, rows: Rows, s: Array, goal: Goal, tried: Sequence[int]) -> int:
    """The number of the place of largest expected improvement that has not been tried; the first, which is a published
    one, where nothing is known."""
    if foreseen is None and not len(tried):
        return 0
    taken = list(tried)
    seen = Seen(places[taken], rows.y[taken].T.reshape(2, -1), np.zeros((2, len(taken))))
    gain = KnobBelief(foreseen, goal, seen, max(goal.untouched, s[taken].max(initial=0))).improvement(places)
    gain[taken] = -1.0
    return int(gain.argmax())


def regret_after(tried: Sequence[int] | NDArray[np.intp], s: Array, goal: Goal, trials: int | None = None) -> Array:
    """(trials,) of the best place so far, the untouched model at first; once all places are tried, of the last."""
    found = s.max() - np.maximum(np.maximum.accumulate(s[list(tried)]), goal.untouched)
    return np.pad(found, (0, (trials or len(found)) - len(found)), mode="edge")


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


def in_any_order(s: Array, goal: Goal, first: int, seed: int) -> Array:
    """(ORDERS, LONG) regret of the first settings in their order and then the others in any."""
    rng = np.random.default_rng(seed)
    orders = [np.append(np.arange(first), first + rng.permutation(len(s) - first)) for _ in range(ORDERS)]
    return np.stack([regret_after(order[:LONG], s, goal, LONG) for order in orders])
