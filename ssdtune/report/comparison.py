"""A comparison of methods on one task in numbers: the best of each at equal trials and at equal cost.

Notation: a run is one study, a method with one seed. Its curve is the best feasible s after each trial, from the
untouched model's on; its bill after each trial, in slice passes, is the preparation and all trials so far. At equal
trials every run counts as far as ``trials``, at equal cost as far as its bill is at most ``cost``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ssdtune.errors import ConfigError
from ssdtune.report.history import best_so_far
from ssdtune.report.page import Table
from ssdtune.report.ranking import RankTest, rank_test
from ssdtune.report.view import StudyView
from ssdtune.study.cost import cost_of_trials
from ssdtune.study.record import PREPARATION, PREPARATION_SECONDS, as_number, read_trial
from ssdtune.study.trials import ScoredTrial, measures_of

PARTS = ("retain", "forget", "unknown")


@dataclass(frozen=True, eq=False)
class Run:
    """One study. ``preparation`` : slice passes and seconds of what was done once, whoever else used it."""

    view: StudyView
    preparation: tuple[float, float]

    @cached_property
    def curve(self) -> np.ndarray:
        """(trials,) best feasible s so far."""
        return best_so_far(self.view)

    @cached_property
    def bill(self) -> np.ndarray:
        """(trials,) slice passes so far."""
        costs = [as_number(read_trial(item.trial).get("cost", 0.0)) for item in self.view.trials]
        return self.preparation[0] + np.cumsum(costs)

    @property
    def cost(self) -> float:
        """Slice passes in all."""
        return float(self.bill[-1]) if len(self.bill) else self.preparation[0]

    @property
    def seconds(self) -> float:
        return self.preparation[1] + cost_of_trials([item.trial for item in self.view.trials]).total

    def after(self, trials: int) -> float:
        """Best feasible s within so many trials."""
        return float(self.curve[min(trials, len(self.curve)) - 1]) if len(self.curve) else self.view.untouched.value

    def within(self, cost: float | np.ndarray) -> np.ndarray:
        """Best feasible s within so many slice passes, of the shape of ``cost``."""
        done = np.searchsorted(self.bill, np.asarray(cost) * (1 + 1e-12), side="right")
        return np.concatenate([[self.view.untouched.value], self.curve])[done]

    def measured(self, item: ScoredTrial) -> dict[str, float]:
        return measures_of(item, self.view.record)

    @property
    def oracle_distance(self) -> float:
        """Mean |q - q_oracle| over retain, forget, unknown and clean unknown slices of the best; NaN without oracle."""
        record = self.view.record
        if record.oracle is None or self.view.best is None:
            return math.nan
        found, q = self.measured(self.view.best), record.quality
        names = [name for part in (*PARTS, "unknown_clean") if (name := f"{part}_{q}") in record.oracle]
        return float(np.mean([abs(found[name] - as_number(record.oracle[name])) for name in names]))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs of several methods on one task, ``runs[label]`` one a seed.

    trials, cost : the equal budgets; None: as far as the shortest, and the cheapest, of all runs that search goes.

    Raises
    ------
    ConfigError : a run without finished trials, or score rules that differ.
    """

    runs: Mapping[str, Sequence[Run]]
    asked_trials: int | None = None
    asked_cost: float | None = None

    def __post_init__(self) -> None:
        empty = [run.view.name for run in self.everything if not run.view.trials]
        if empty or not self.everything:
            raise ConfigError("no finished trial yet", f"study '{empty[0]}'" if empty else "comparison", "run it")
        if len({run.view.record.rule for run in self.everything}) != 1:
            raise ConfigError("the studies have different score rules", "comparison", "compare studies of one task")

    @cached_property
    def everything(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]

    @cached_property
    def _searched(self) -> list[Run]:
        """Runs of methods with knobs; a method without any is one trial, to which no other is cut."""
        return [run for run in self.everything if run.view.record.knobs] or self.everything

    @cached_property
    def trials(self) -> int:
        return self.asked_trials or min(len(run.curve) for run in self._searched)

    @cached_property
    def cost(self) -> float:
        return self.asked_cost or min(run.cost for run in self._searched)

    @cached_property
    def best_of(self) -> dict[str, Run]:
        """The run of each method that found the most."""
        return {label: max(runs, key=_worth) for label, runs in self.runs.items()}

    def at_equal_trials(self) -> dict[str, np.ndarray]:
        """Label -> (seeds,) best feasible s."""
        return {label: np.array([run.after(self.trials) for run in runs]) for label, runs in self.runs.items()}

    def at_equal_cost(self) -> dict[str, np.ndarray]:
        """Label -> (seeds,) best feasible s."""
        return {label: np.array([float(run.within(self.cost)) for run in runs]) for label, runs in self.runs.items()}

    @cached_property
    def order(self) -> list[str]:
        """Labels, the best mean s at equal trials first; of equals the one that is better at equal cost."""
        trials, cost = self.at_equal_trials(), self.at_equal_cost()
        return sorted(self.runs, key=lambda label: (-trials[label].mean(), -cost[label].mean()))

    def ranks(self, best: Mapping[str, np.ndarray]) -> RankTest | None:
        """Rank test of 1 - s over seeds; None of too few methods or seeds, or of different seeds."""
        try:
            return rank_test({label: 1 - values for label, values in best.items()})
        except ConfigError:
            return None

    def row(self, label: str) -> dict[str, Any]:
        """What a method came to, as plain values: means over seeds of s, cost and seconds, the rest of its best run."""
        runs, run = self.runs[label], self.best_of[label]
        best = run.view.best
        return {
            "trials": min(len(each.curve) for each in runs),
            "s": float(self.at_equal_trials()[label].mean()),
            "s_each": self.at_equal_trials()[label].tolist(),
            "s_equal_cost": float(self.at_equal_cost()[label].mean()),
            "s_equal_cost_each": self.at_equal_cost()[label].tolist(),
            "feasible": best is not None and best.score.feasible,
            "retained": best.score.retained if best else math.nan,
            "remembered": best.score.remembered if best else math.nan,
            "oracle_distance": run.oracle_distance,
            "cost": float(np.mean([each.cost for each in runs])),
            "preparation": run.preparation[0],
            "seconds": float(np.mean([each.seconds for each in runs])),
            "study": run.view.name,
            "trial": best.number if best else None,
            "setting": dict(best.setting) if best else {},
        }

    def document(self) -> dict[str, Any]:
        """All rows, the best method first, as plain JSON values."""
        oracle = self.everything[0].view.oracle
        return {
            "budget": {"trials": self.trials, "cost": self.cost},
            "seeds": max(len(runs) for runs in self.runs.values()),
            "untouched": self.everything[0].view.untouched.value,
            "oracle": None if oracle is None else oracle.value,
            "methods": {label: self.row(label) for label in self.order},
        }


def read_run(view: StudyView, attributes: Mapping[str, Any]) -> Run:
    """A run from its study's view and user attributes."""
    return Run(view, (attributes.get(PREPARATION, 0.0), attributes.get(PREPARATION_SECONDS, 0.0)))


def comparison_table(comparison: Comparison) -> Table:
    """One row a method, the best first."""
    columns = ["method", "trials", f"s at {comparison.trials} trials", f"s at {comparison.cost:.0f} passes"]
    columns += ["retained", "remembered", "to oracle", "passes", "seconds", "best setting"]
    rows = []
    for label in comparison.order:
        row, best = comparison.row(label), comparison.best_of[label].view.best
        remark = "" if row["feasible"] else " (infeasible)"
        rows.append(
            [
                label,
                row["trials"],
                _spread(row["s_each"]),
                _spread(row["s_equal_cost_each"]),
                f"{row['retained']:.3f}",
                f"{row['remembered']:.3f}",
                "" if math.isnan(row["oracle_distance"]) else f"{row['oracle_distance']:.4f}",
                f"{row['cost']:.0f}",
                f"{row['seconds']:.1f}",
                (best.setting_in_words() if best else "none evaluated in full") + remark,
            ]
        )
    return Table(columns, rows, numeric=range(1, 9))


def verdict(comparison: Comparison) -> str:
    """Which method is best at equal trials and at equal cost, in one sentence or two."""
    words = []
    for what, best in (
        (f"{comparison.trials} trials", comparison.at_equal_trials()),
        (f"{comparison.cost:.0f} slice passes", comparison.at_equal_cost()),
    ):
        top = max(values.mean() for values in best.values())
        first = [label for label in comparison.order if best[label].mean() >= top - 5e-4]
        words.append(f"at {what} {', '.join(first)} with s = {top:.3f}")
    untouched = comparison.everything[0].view.untouched.value
    return f"Best is {words[0]}; {words[1]} (untouched model {untouched:.3f})."


def judgement(comparison: Comparison) -> list[str]:
    """How far that is to be trusted: the bound, the oracle, whether ranks differ, and what the comparison rests on."""
    first, view = comparison.order[0], comparison.everything[0].view
    found, bound = comparison.best_of[first].view.best, view.record.rule.min_retained
    words = []
    if found is not None:
        kept = f"{first}'s best model keeps {found.score.retained:.1%} of the retain quality ({bound:.0%} asked)"
        words.append(f"{kept}; the oracle scores {view.oracle.value:.3f}." if view.oracle is not None else f"{kept}.")
    test = comparison.ranks(comparison.at_equal_trials())
    if test is not None:
        like = next((group for group in test.groups if first in group), ())
        others = ", ".join(label for label in like if label != first)
        words.append(f"Ranks do not tell it from {others}." if others else "Its rank differs from all others'.")
    seeds = max(len(runs) for runs in comparison.runs.values())
    rests = f"One trained model, {seeds} search seed{'s' if seeds > 1 else ''}"
    words.append(f"{rests}: other models may rank the methods otherwise.")
    return words


def _spread(values: Sequence[float]) -> str:
    """The mean, and the ends where there are several seeds."""
    ends = f" [{min(values):.3f}, {max(values):.3f}]" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{ends}"


def _worth(run: Run) -> tuple[bool, float]:
    best = run.view.best
    return (False, -math.inf) if best is None else (best.score.feasible, best.score.value)
