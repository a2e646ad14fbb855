"""Replays of recorded trials, slice by slice, without a model: does the interval cover, is a true best ever stopped,
and what the paired bound saves beside Optuna's WilcoxonPruner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna

from benchmarks.trial_cost.plain import PlainTrial
from ssdtune.objective import stopping
from ssdtune.objective.estimate import estimate_mean
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.objective.stopping import FIRST_LOOK, FORGET, GROWTH, RETAIN

SETS = (RETAIN, FORGET)
ROUNDING = 1e-6  # of a score
Qualities = dict[str, np.ndarray]


def best_of(trials: Sequence[Qualities], rule: ScoreRule, untouched: Qualities) -> int | None:
    """The best feasible trial; None where leaving the model as it is is no worse than any, but for rounding."""
    scores = [score_of(rule, trial) for trial in trials]
    feasible = [index for index, score in enumerate(scores) if score.feasible]
    best = max(feasible, key=lambda index: scores[index].value, default=None)
    least = score_of(rule, untouched).value + ROUNDING
    return best if best is not None and scores[best].value > least else None


def coverage(trials: list[PlainTrial], untouched: Qualities, draws: int, rng: np.random.Generator) -> float:
    """Share of random partial evaluations whose stated 95 % interval holds the full mean."""
    changed = [t for t in trials if any(abs(t.qualities[name] - untouched[name]).max() > 1e-6 for name in SETS)]
    covered = []
    for _ in range(draws):
        trial, name = changed[rng.integers(len(changed))], SETS[rng.integers(2)]
        values = trial.qualities[name]
        n = int(np.exp(rng.uniform(np.log(FIRST_LOOK), np.log(0.8 * len(values)))))
        places = rng.choice(len(values), n, replace=False)
        estimate = estimate_mean(values[places], untouched[name][None], places)
        error = values.mean() - estimate.mean
        covered.append(-estimate.below(0.975) <= error <= estimate.above(0.975))
    return float(np.mean(covered))


@dataclass
class Recorded:
    """Stands for a model's evaluation: its slices are known, and shown one after the other."""

    qualities: Qualities
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SETS, 0))
    broken: tuple[str, ...] = ()

    def quality(self, name: str) -> np.ndarray:
        return self.qualities[name][: self.done[name]]

    def extend(self, name: str, stop: int) -> None:
        self.done[name] = max(self.done[name], min(stop, len(self.qualities[name])))


def stops(found: Recorded, known: Sequence[Qualities], rule: ScoreRule, best: Score) -> bool:
    """Whether the study's own rule stops a trial; ``known`` are the qualities of models that it is paired with."""
    controls = {name: np.array([qualities[name] for qualities in known]) for name in SETS}
    return stopping.decide(found, controls, rule, best) is not None  # type: ignore[arg-type]


def shuffled(models: Sequence[Qualities], rng: np.random.Generator) -> list[Qualities]:
    """The slices of all models in one random order."""
    orders = {name: rng.permutation(len(models[0][name])) for name in SETS}
    return [{name: model[name][orders[name]] for name in SETS} for model in models]


def score_of(rule: ScoreRule, model: Qualities) -> Score:
    return rule(*(math.fsum(model[name]) / len(model[name]) for name in SETS))


@dataclass(frozen=True)
class Search:
    """A search of recorded trials: whether its best was lost, slices evaluated over slices possible, and the trials
    that were stopped, with the models that each was paired with."""

    lost: bool
    slices: float
    stopped: list[tuple[Recorded, list[Qualities]]]


def search(untouched: Qualities, trials: Sequence[Qualities], rule: ScoreRule, rng: np.random.Generator) -> Search:
    """One search of all trials in random order, as the study's own rule would go through them."""
    incumbent, used = stopping.Incumbent(score_of(rule, untouched)), 0
    scores, best = [score_of(rule, trial) for trial in trials], best_of(trials, rule, untouched)
    stopped = []
    for index in rng.permutation(len(trials)):
        known = [untouched, *([incumbent.columns] if incumbent.columns else [])]
        found = Recorded(trials[index])
        if stops(found, known, rule, incumbent.score):
            stopped.append((found, known))
        elif incumbent.beaten_by(scores[index]):
            incumbent = stopping.Incumbent(scores[index], trials[index])
        used += sum(found.done.values())
    lost = best is not None and incumbent.score.value < scores[best].value - ROUNDING
    return Search(lost, used / (len(trials) * sum(map(len, untouched.values()))), stopped)


@dataclass(frozen=True)
class Replay:
    """Share of replays whose true best was stopped, and slices evaluated over slices possible."""

    error: float
    slices: float


def replay_bound(
    trials: list[PlainTrial], untouched: Qualities, rule: ScoreRule, replays: int, rng: np.random.Generator
) -> Replay:
    """Trials and slices in random orders under the study's own rule."""
    found = []
    for _ in range(replays):
        before, *models = shuffled([untouched, *(trial.qualities for trial in trials)], rng)
        found.append(search(before, models, rule, rng))
    return Replay(float(np.mean([each.lost for each in found])), float(np.mean([each.slices for each in found])))


def replay_wilcoxon(
    trials: list[PlainTrial],
    untouched: Qualities,
    rule: ScoreRule,
    replays: int,
    rng: np.random.Generator,
    threshold: float,
) -> Replay:
    """The same replays with WilcoxonPruner: each slice reports its own part of the score, at the same looks."""
    errors, used = [], []
    models = [trial.qualities for trial in trials]
    scores, best = [score_of(rule, model) for model in models], best_of(models, rule, untouched)
    total = sum(map(len, untouched.values()))
    for _ in range(replays):
        order = rng.permutation(total)
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=threshold, n_startup_steps=2 * FIRST_LOOK)
        study = optuna.create_study(direction="maximize", pruner=pruner)
        stopped, slices = set(), 0
        for index in rng.permutation(len(trials)):
            parts = _parts(trials[index].qualities, rule)[order]
            trial, seen = study.ask(), 0
            while seen < total:
                more = min(max(2 * FIRST_LOOK, int(seen * GROWTH)), total)
                for step in range(seen, more):
                    trial.report(float(parts[step]), int(order[step]))
                seen = more
                if seen < total and trial.should_prune():
                    break
            slices += seen
            if seen < total:
                stopped.add(int(index))
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                trial.set_constraint("min_retained", scores[index].violation)
                study.tell(trial, scores[index].value)
        errors.append(_lost(best, stopped, scores))
        used.append(slices / (len(trials) * total))
    return Replay(float(np.mean(errors)), float(np.mean(used)))


def _lost(best: int | None, stopped: set[int], scores: list[Score]) -> bool:
    """Whether the true best was stopped and no other that was kept is as good, but for rounding."""
    assert best is not None
    kept = [score.value for index, score in enumerate(scores) if score.feasible and index not in stopped]
    return best in stopped and max(kept, default=0.0) < scores[best].value - ROUNDING


def _parts(qualities: Qualities, rule: ScoreRule) -> np.ndarray:
    """What each slice adds to the score; the mean over all is the unclipped score but for a constant."""
    total = sum(map(len, qualities.values()))
    w, gap = rule.retain_weight, rule.q_forget - rule.floor
    retain = w * qualities[RETAIN] / rule.q_retain * total / len(qualities[RETAIN])
    forget = -(1 - w) * (qualities[FORGET] - rule.floor) / gap * total / len(qualities[FORGET])
    return np.concatenate([retain, forget])
