"""Replays of recorded trials, slice by slice, without a model: does the interval cover, is a true best ever stopped,
and what the paired bound saves beside Optuna's WilcoxonPruner."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import torch
from trial_plain import PlainTrial

from ssdtune.objective.estimate import estimate_mean
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.objective.stopping import FIRST_LOOK, FORGET, GROWTH, RETAIN
from ssdtune.objective.trial import TrialScorer

SETS = (RETAIN, FORGET)
ROUNDING = 1e-6  # of a score
Qualities = dict[str, np.ndarray]


def best_trial(trials: list[PlainTrial], rule: ScoreRule) -> int | None:
    """The best feasible trial; None where leaving the model as it is is no worse than any, but for rounding."""
    scores = _scores(trials, rule)
    feasible = [index for index, score in enumerate(scores) if score.feasible]
    best = max(feasible, key=lambda index: scores[index].value, default=None)
    untouched = rule(rule.q_retain, rule.q_forget).value
    return best if best is not None and scores[best].value > untouched + ROUNDING else None


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
        covered.append(abs(estimate.mean - values.mean()) <= estimate.half_width(0.975))
    return float(np.mean(covered))


@dataclass
class Recorded:
    """Stands for a model's evaluation: its slices are known, and shown one after the other."""

    qualities: Qualities
    columns: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = {name: {"q": values} for name, values in self.qualities.items()}
        self.done = dict.fromkeys(self.qualities, 0)
        self.broken: list[str] = []

    def quality(self, name: str) -> np.ndarray:
        return self.qualities[name][: self.done[name]]

    def extend(self, name: str, stop: int) -> None:
        self.done[name] = max(self.done[name], min(stop, len(self.qualities[name])))

    def finish(self) -> None:
        for name in self.done:
            self.extend(name, len(self.qualities[name]))


class Replayed:
    """As much of an ``Evaluator`` as a ``TrialScorer`` needs; parameters are recorded qualities."""

    dtype = torch.float32

    def __init__(self, untouched: Qualities) -> None:
        self._untouched = Recorded(untouched)
        self._untouched.finish()

    def start(self, params: Any) -> Recorded:
        return Recorded(params)

    def untouched(self) -> Recorded:
        return self._untouched

    def prepared(self, name: str) -> Any:
        return SimpleNamespace(__len__=lambda: len(self._untouched.qualities[name]))


@dataclass(frozen=True)
class Replay:
    """Share of replays whose true best was stopped, and slices evaluated over slices possible."""

    error: float
    slices: float


def replay_bound(
    trials: list[PlainTrial], untouched: Qualities, rule: ScoreRule, replays: int, rng: np.random.Generator
) -> Replay:
    """Trials and slices in random orders through the study's own scorer."""
    errors, used = [], []
    scores, best = _scores(trials, rule), best_trial(trials, rule)
    for _ in range(replays):
        orders = {name: rng.permutation(len(untouched[name])) for name in SETS}
        scorer = TrialScorer(Replayed(_ordered(untouched, orders)), rule)  # type: ignore[arg-type]
        stopped, slices = set(), 0
        for index in rng.permutation(len(trials)):
            scored = scorer(_ordered(trials[index].qualities, orders))  # type: ignore[arg-type]
            slices += scored.slices
            if scored.stopped is None:
                scorer.keep(scored, scores[index])
            else:
                stopped.add(int(index))
        errors.append(_lost(best, stopped, scores))
        used.append(slices / (len(trials) * sum(map(len, untouched.values()))))
    return Replay(float(np.mean(errors)), float(np.mean(used)))


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
    scores, best = _scores(trials, rule), best_trial(trials, rule)
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


def _scores(trials: list[PlainTrial], rule: ScoreRule) -> list[Score]:
    return [rule(*(trial.qualities[name].mean() for name in SETS)) for trial in trials]


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


def _ordered(qualities: Qualities, orders: dict[str, np.ndarray]) -> Qualities:
    return {name: qualities[name][orders[name]] for name in SETS}
