"""From results to figures: best scores, costs, curves at equal cost, with intervals over tasks.

The unit is the trained model; models are averaged within a task, and intervals are over tasks (bootstrap, 95 %). Trials
that were stopped early are estimates: they cost, but are never the best. A study without a feasible trial above the
untouched model comes to the untouched model, whose score is the retain weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Metrics
from benchmarks.outcome.runs import Result
from ssdtune.objective.outcome import NON_FINITE, STOPPED
from ssdtune.objective.score import ScoreRule
from ssdtune.study.record import as_number

Array = NDArray[np.float64]


class Goal(NamedTuple):
    """Retain weight and bound on retained; trials come from searches at that bound."""

    retain_weight: float
    min_retained: float

    @property
    def name(self) -> str:
        return f"w{self.retain_weight:g}_min{self.min_retained:g}"


GOALS = (Goal(0.2, 0.95), Goal(0.5, 0.95), Goal(0.2, 0.98))
BUDGETS = (1, 2, 3, 5)
"""Costs of whole studies, in those of SSD's study."""

WITHIN = 3  # the budget of wins and losses against SSD
GOOD = 0.95
RIVAL = "ssd"


@dataclass(frozen=True)
class Study:
    """A study's trials scored for a goal."""

    result: Result
    goal: Goal

    @cached_property
    def rule(self) -> ScoreRule:
        q = self.result["quality"]
        untouched = self.result["baseline"]
        return ScoreRule(untouched[f"retain_{q}"], untouched[f"forget_{q}"], self.result["floor"], *self.goal)

    @cached_property
    def scores(self) -> Array:
        """(trials,) s where feasible and evaluated in full, else the untouched model's."""
        q, rule, found = self.result["quality"], self.rule, []
        for trial in self.result["trials"]:
            retain, forget = (as_number(trial.get(f"{name}_{q}")) for name in ("retain", "forget"))
            score = rule(retain, forget)
            usable = score.feasible and STOPPED not in trial and NON_FINITE not in trial
            found.append(max(score.value, rule.retain_weight) if usable else rule.retain_weight)
        return np.array(found)

    @cached_property
    def spent(self) -> Array:
        """(trials,) slice passes up to the end of each trial, the analysis included."""
        found: Array = self.result["analysis"] + np.cumsum([trial["cost"] for trial in self.result["trials"]])
        return found

    @property
    def cost(self) -> float:
        return float(self.spent[-1])

    @property
    def best(self) -> float:
        return float(self.scores.max())

    def best_within(self, budget: float) -> float:
        """The best s of the trials that ended within a cost."""
        return float(np.max(self.scores[self.spent <= budget], initial=self.rule.retain_weight))

    @cached_property
    def measures(self) -> Mapping[str, Any]:
        """Those of the best trial, or of the untouched model where no trial is better."""
        place = int(self.scores.argmax())
        better = self.scores[place] > self.rule.retain_weight
        found: Mapping[str, Any] = self.result["trials"][place] if better else self.result["baseline"]
        return found

    @property
    def retained(self) -> float:
        q = self.result["quality"]
        return min(as_number(self.measures[f"retain_{q}"]) / self.rule.q_retain, 1.0)

    @property
    def clean_unknown(self) -> float:
        """q of forget slices that were not given, against clean targets, above the oracle's; NaN where not known."""
        name = f"unknown_clean_{self.result['quality']}"
        return as_number(self.measures.get(name)) - as_number(self.result["oracle"].get(name))

    @property
    def oracle_distance(self) -> float:
        """Mean |q - q_oracle| over retain, forget, unknown and clean unknown, as far as they are known."""
        q, oracle = self.result["quality"], self.result["oracle"]
        names = [f"{part}_{q}" for part in ("retain", "forget", "unknown", "unknown_clean")]
        return float(np.mean([abs(as_number(self.measures[name]) - oracle[name]) for name in names if name in oracle]))


class Summary:
    """All studies of a goal. ``by[label][task]`` are those of one method on one task, by model."""

    def __init__(self, results: Sequence[Result], goal: Goal, seed: int = 0) -> None:
        self.goal, self._seed = goal, seed
        self.by: dict[str, dict[str, dict[int, Study]]] = {}
        for result in results:
            if result["min_retained"] == goal.min_retained:
                tasks = self.by.setdefault(result["label"], {})
                tasks.setdefault(result["task"], {})[result["model"]] = Study(result, goal)

    def pairs(self, label: str) -> dict[str, list[tuple[Study, Study]]]:
        """By task, a method's studies, each with SSD's of the same model; tasks that SSD has not run are left out."""
        rivals = self.by.get(RIVAL, {})
        found = {
            task: [(models[m], rivals[task][m]) for m in models if m in rivals.get(task, {})]
            for task, models in self.by[label].items()
        }
        return {task: both for task, both in found.items() if both}

    def over_tasks(self, label: str, value: Callable[[Study], float]) -> Array:
        """(tasks,) a figure of each study, averaged over a task's models; tasks without it are left out."""
        means = [np.mean([value(study) for study in models.values()]) for models in self.by[label].values()]
        return np.array([mean for mean in means if math.isfinite(mean)])

    def at_cost(self, label: str, budget: float) -> dict[str, float]:
        """By task, mean over models of the best s within ``budget`` costs of SSD's study."""
        return {
            task: float(np.mean([own.best_within(budget * rival.cost) for own, rival in both]))
            for task, both in self.pairs(label).items()
        }

    def ahead(self, label: str) -> dict[str, float]:
        """By task, the best s within ``WITHIN`` costs of SSD's study minus that of SSD's whole study."""
        rivals = {task: np.mean([rival.best for _, rival in both]) for task, both in self.pairs(label).items()}
        return {task: float(best - rivals[task]) for task, best in self.at_cost(label, WITHIN).items()}

    def curve(self, label: str) -> list[float]:
        """Median over tasks of the best s within each of ``BUDGETS``; NaN where SSD has not run."""
        found = [list(self.at_cost(label, budget).values()) for budget in BUDGETS]
        return [float(np.median(values)) if values else math.nan for values in found]

    def metrics(self) -> Metrics:
        found: Metrics = {}

        def add(name: str, values: Array, statistic: Callable[..., Any] = np.mean) -> None:
            if len(values):
                stated(found, name, values, statistic, self._seed)

        for label in self.by:
            best = self.over_tasks(label, lambda study: study.best)
            add(f"{self.goal.name}.median_best.{label}", best, np.median)
            add(f"{self.goal.name}.share_095.{label}", (best >= GOOD).astype(float))
            add(f"{self.goal.name}.retained.{label}", self.over_tasks(label, lambda study: study.retained), np.median)
            add(f"{self.goal.name}.cost.{label}", self.over_tasks(label, lambda study: study.cost))
            add(f"{self.goal.name}.seconds.{label}", self.over_tasks(label, lambda study: study.result["seconds"]))
            add(f"{self.goal.name}.clean_unknown.{label}", self.over_tasks(label, lambda study: study.clean_unknown))
            distance = self.over_tasks(label, lambda study: study.oracle_distance)
            add(f"{self.goal.name}.oracle_distance.{label}", distance)
            ahead = np.array(list(self.ahead(label).values()))
            if label != RIVAL and len(ahead):
                add(f"{self.goal.name}.win_rate_vs_ssd.{label}", (ahead > 0).astype(float))
                found[f"{self.goal.name}.worst_loss_vs_ssd.{label}"] = float(-ahead.min())
            for budget, value in zip(BUDGETS, self.curve(label), strict=True):
                if math.isfinite(value):
                    found[f"{self.goal.name}.best_at_{budget}x.{label}"] = value
        return found


def interval(values: Array, statistic: Callable[..., Any], seed: int = 0, samples: int = 2000) -> tuple[float, float]:
    """The 95 % bootstrap interval of a statistic over tasks."""
    rows = np.random.default_rng([seed, len(values)]).integers(len(values), size=(samples, len(values)))
    low, high = np.quantile(statistic(values[rows], axis=1), [0.025, 0.975])
    return float(low), float(high)


def stated(metrics: Metrics, name: str, values: Array, statistic: Callable[..., Any] = np.mean, seed: int = 0) -> str:
    """A figure of values over tasks, with its interval, added to ``metrics``; in words."""
    low, high = interval(values, statistic, seed)
    metrics.update({name: float(statistic(values)), f"{name}.lo": low, f"{name}.hi": high})
    return f"{metrics[name]:.3f} [{low:.3f}, {high:.3f}]"


def trial_ratios(summary: Summary, label: str) -> tuple[float, float]:
    """Medians over tasks of what a trial takes, were all its slices evaluated, in SSD's: (slice passes, seconds).

    NaN where SSD has not run. Preparations, such as the analysis, are not in it.
    """
    ratios = [
        np.mean([full_trial(own) / full_trial(rival) for own, rival in both], axis=0)
        for both in summary.pairs(label).values()
    ]
    passes, seconds = np.median(ratios, axis=0) if ratios else (math.nan, math.nan)
    return float(passes), float(seconds)


def full_trial(study: Study) -> Array:
    """(2,) mean slice passes and seconds of unlearning and of evaluating every slice, over trials that measured any."""
    found = []
    for trial in study.result["trials"]:
        slices, possible = trial["slices"], trial["slices_possible"]
        if slices:
            a_slice = (trial["seconds_reconstruct"] + trial["seconds_score"]) / slices
            found.append([trial["cost"] - slices + possible, trial["seconds_unlearn"] + a_slice * possible])
    return np.mean(found, axis=0) if found else np.full(2, math.nan)
