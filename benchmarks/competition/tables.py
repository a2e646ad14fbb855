"""What the runs of a competition come to: flat metrics, and the tables that are printed and published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.competition.runs import SETTINGS, Job, regret_of
from benchmarks.harness import Metrics, table
from benchmarks.outcome.tables import interval
from ssdtune.report.ranking import rank_test
from ssdtune.report.regret import area_under_regret, block_trials, trials_to_target

AT = (1, 3, 5, 10, 15, 30, 40)
LATE = (50, 100)
SHOWN = (1, 3, 5, 10, 30, 50, 100)
AREAS = (10, 30)
TARGET = 0.01
TRAP_RATIO, TRAP_GRACE = 1.5, 2
ABLATED = 5
"""Trials of an ablation: later ones are decided by the trials themselves."""


@dataclass
class Ledger:
    """Incumbent regret of every run, by (setting, label) and task; ``best`` is s of the best known setting."""

    best: dict[tuple[str, str], float]
    runs: dict[tuple[str, str], dict[str, list[np.ndarray]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, job: Job, found: np.ndarray) -> None:
        regret = regret_of(found, self.best[job.setting, job.task], SETTINGS[job.setting])
        self.runs[job.setting, job.label][job.task].append(regret)

    def labels(self, setting: str) -> list[str]:
        return [label for own, label in self.runs if own == setting]

    def tasks(self, setting: str, labels: Iterable[str]) -> list[str]:
        """Tasks that every one of ``labels`` has run on."""
        common = set.intersection(*(set(self.runs[setting, label]) for label in labels))
        return sorted(common)

    def regret(self, setting: str, label: str, tasks: Sequence[str] | None = None) -> np.ndarray:
        """(tasks, seeds, trials)."""
        runs = self.runs[setting, label]
        return np.array([runs[task] for task in (sorted(runs) if tasks is None else tasks)])


def with_interval(name: str, values: np.ndarray, statistic: Callable[..., Any]) -> Metrics:
    """A statistic over tasks, the first axis, and its 95 % bootstrap interval as ``.lo`` and ``.hi``."""
    low, high = interval(values, statistic)
    return {name: float(statistic(values, axis=0)), f"{name}.lo": low, f"{name}.hi": high}


def in_words(metrics: Metrics, key: str) -> str:
    """A metric with its interval, in words."""
    return f"{metrics[key]:.3g} ({metrics[key + '.lo']:.3g} … {metrics[key + '.hi']:.3g})"


def regret_metrics(
    prefix: str, runs: Mapping[str, np.ndarray], shown: Sequence[int], title: str
) -> tuple[Metrics, list[str]]:
    """Of regrets (tasks, seeds, trials) by name: median trials to target (one more than all where it is not met) and
    mean regret at trial counts, with the lines of their table."""
    metrics: Metrics = {}
    body = []
    for name, own in runs.items():
        trials, regret = np.minimum(block_trials(own, TARGET), own.shape[2] + 1), own.mean(axis=1)
        found = with_interval(f"{prefix}.median_trials.{name}", trials, np.median)
        for count in shown:
            found |= with_interval(f"{prefix}.regret.{name}.{count}", regret[:, count - 1], np.mean)
        body.append((name, *(in_words(found, key) for key in found if not key.endswith((".lo", ".hi")))))
        metrics |= found
    return metrics, table((title, f"trials to within {TARGET:g}", *(f"regret after {n}" for n in shown)), body)


def sampler_metrics(ledger: Ledger, setting: str, label: str) -> Metrics:
    """Median trials to target (budget + 1: more than the budget), mean and median regret at trial counts."""
    runs = ledger.regret(setting, label)
    budget = runs.shape[2]
    curves = runs.mean(axis=1)
    trials = block_trials(runs, TARGET) if len(runs) > 1 else np.array([np.inf])
    metrics: Metrics = {f"{setting}.censored.{label}": float(np.mean(~np.isfinite(trials)))}
    metrics |= with_interval(f"{setting}.median_trials.{label}", np.minimum(trials, budget + 1), np.median)
    for count in (*AT, *LATE):
        if count <= budget:
            metrics |= with_interval(f"{setting}.regret.{label}.{count}", curves[:, count - 1], np.mean)
            metrics[f"{setting}.median_regret.{label}.{count}"] = float(np.median(curves[:, count - 1]))
    return metrics


def areas(ledger: Ledger, setting: str, label: str, tasks: Sequence[str], trials: int) -> np.ndarray:
    """(tasks,) area under regret over the first ``trials`` trials, seeds averaged."""
    return area_under_regret(ledger.regret(setting, label, tasks).mean(axis=1), trials)


def rank_metrics(ledger: Ledger, setting: str, labels: Sequence[str], lines: list[str]) -> Metrics:
    """Mean ranks over the tasks that all of ``labels`` have run on, with the critical-difference test in words."""
    tasks = ledger.tasks(setting, labels)
    metrics: Metrics = {}
    for count in AREAS:
        if len(tasks) < 2 or len(labels) < 2:
            continue
        test = rank_test({label: areas(ledger, setting, label, tasks, count) for label in labels})
        suffix = "" if count == AREAS[-1] else f"_{count}"
        ranks = rankdata([areas(ledger, setting, label, tasks, count) for label in labels], axis=0)
        for label, own in zip(labels, ranks, strict=True):
            metrics |= with_interval(f"{setting}.mean_rank{suffix}.{label}", own, np.mean)
        metrics[f"{setting}.critical_difference{suffix}"] = test.critical_difference
        order = ", ".join(f"{label} {rank:.2f}" for label, rank in test.mean_ranks.items())
        alike = "; ".join(" ~ ".join(group) for group in test.groups) or "none"
        lines.append(
            f"{setting}, area under regret over {count} trials, {test.blocks} tasks: {order}. {test.test} "
            f"{test.statistic:.3g}, p = {test.p_value:.1g}; Nemenyi critical difference "
            f"{test.critical_difference:.2f} at {test.level:g}; not told apart: {alike}."
        )
    return metrics


def win_metrics(ledger: Ledger, setting: str, ours: str, theirs: str = "tpe") -> Metrics:
    """Share of tasks on which our area under regret over 30 trials is below theirs; a tie counts half."""
    tasks = ledger.tasks(setting, (ours, theirs))
    own, other = (areas(ledger, setting, label, tasks, AREAS[-1]) for label in (ours, theirs))
    return wins_of(f"{setting}.win_rate_vs_{theirs.replace('-', '_')}", own, other)


def wins_of(name: str, ours: np.ndarray, theirs: np.ndarray) -> Metrics:
    """Share of tasks on which our area (tasks,) is below theirs; a tie counts half."""
    return with_interval(name, np.where(np.abs(ours - theirs) <= 1e-9, 0.5, ours < theirs), np.mean)


def adversarial_metrics(ledger: Ledger, setting: str, wrong: Sequence[str], without: str) -> Metrics:
    """Area under regret over 30 trials with a wrong prior over that without; the worst ratio is the headline."""
    metrics: Metrics = {}
    for label in wrong:
        tasks = ledger.tasks(setting, (label, without, "tpe"))
        at_end = [ledger.regret(setting, each, tasks).mean(axis=1)[:, AREAS[-1] - 1].mean() for each in (label, "tpe")]
        both = (areas(ledger, setting, each, tasks, AREAS[-1]) for each in (label, without))
        metrics |= area_ratio(f"{setting}.adversarial.{label}.aur_ratio", *both)
        metrics[f"{setting}.adversarial.{label}.minus_tpe_30"] = float(at_end[0] - at_end[1])
    ratios = [value for name, value in metrics.items() if name.endswith("aur_ratio")]
    return {f"{setting}.adversarial.aur_ratio": max(ratios), **metrics} if ratios else {}


def area_ratio(name: str, ours: np.ndarray, theirs: np.ndarray) -> Metrics:
    """Our mean area over tasks over theirs, each (tasks,)."""
    return with_interval(name, np.stack([ours, theirs], axis=1), _ratio_of_means)


def _ratio_of_means(both: np.ndarray, axis: int) -> np.ndarray:
    """Of two means over tasks (..., 2)."""
    mean = both.mean(axis=axis)
    found: np.ndarray = mean[..., 0] / np.maximum(mean[..., 1], 1e-9)
    return found


def trap_metrics(ledger: Ledger, setting: str, ours: str, without: str) -> Metrics:
    """``trap_of`` two samplers, on the tasks that both have run on."""
    tasks = ledger.tasks(setting, (ours, without))
    return trap_of(setting, *(ledger.regret(setting, label, tasks) for label in (ours, without)))


def trap_of(prefix: str, ours: np.ndarray, without: np.ndarray) -> Metrics:
    """Trials to the target against those without prior, task by task: the largest ratio beyond the grace of
    ``TRAP_GRACE`` trials, and on how many tasks it is above ``TRAP_RATIO``. Both are regrets (tasks, seeds, trials).
    A search that does not arrive counts as one trial more than the budget, and of several the median counts; tasks that
    no search solves do not. So the ratio is at least as large where a median would not arrive (``censored`` says so of
    the largest); where that is still within the bound, the task is ``undecided``.

    A search is also luck: ``one_seed`` is on how many tasks a single search with the prior breaks the bound against a
    single one without, of another seed where there are several, and ``null`` the same of two searches without prior,
    each a mean over pairs.
    """
    budget = ours.shape[2]
    trials = [trials_to_target(each, TARGET) for each in (ours, without)]  # (tasks, seeds)
    led, alone = (np.minimum(each, budget + 1).T for each in trials)
    own, plain = np.median(led, axis=0), np.median(alone, axis=0)
    metrics = trap_counts(prefix, own, plain, ~np.isfinite(np.median(trials[0], axis=1)), budget)
    for name, found in {"one_seed": led, "null": alone}.items():
        pairs = [(i, j) for i in range(len(found)) for j in range(len(alone)) if i != j or len(alone) == 1]
        if len(found) > 1:
            stuck = [(trap_ratio(found[i], alone[j], budget) > TRAP_RATIO).sum() for i, j in pairs]
            metrics[f"{prefix}.trap.{name}.stuck_tasks"] = float(np.mean(stuck))
    return metrics


def trap_counts(prefix: str, own: np.ndarray, plain: np.ndarray, late: np.ndarray, budget: int) -> Metrics:
    """Of the trials (tasks,) that a search takes, and one without prior: ``late`` where the former did not arrive."""
    ratio = trap_ratio(own, plain, budget)
    censored = late[np.minimum(own, plain) <= budget]
    return {
        f"{prefix}.trap.max_ratio": float(ratio.max(initial=0.0)),
        f"{prefix}.trap.stuck_tasks": int((ratio > TRAP_RATIO).sum()),
        f"{prefix}.trap.undecided_tasks": int((censored & (ratio <= TRAP_RATIO)).sum()),
        f"{prefix}.trap.censored": int(censored.any() and ratio[censored].max() == ratio.max()),
    }


def trap_words(metrics: Metrics, prefix: str) -> str:
    """On how many tasks the bound is broken, in words."""
    found = {name.removeprefix(f"{prefix}.trap."): value for name, value in metrics.items()}
    words = (
        f"on {found['stuck_tasks']:g} tasks (most {'at least ' if found['censored'] else ''}{found['max_ratio']:.2f}"
    )
    words += f"; {found['undecided_tasks']:g} undecided" if found["undecided_tasks"] else ""
    words += f"; search by search {found['one_seed.stuck_tasks']:.3g}" if "one_seed.stuck_tasks" in found else ""
    words += f"; two without prior {found['null.stuck_tasks']:.3g}" if "null.stuck_tasks" in found else ""
    return words + ")"


def trap_ratio(own: np.ndarray, plain: np.ndarray, budget: int) -> np.ndarray:
    """Of the tasks that at least one of two solves: trials beyond the grace over those of the other."""
    solved = np.minimum(own, plain) <= budget
    found: np.ndarray = np.maximum(own[solved] - TRAP_GRACE, 0) / plain[solved]
    return found


def ablation_metrics(ledger: Ledger, setting: str, labels: Sequence[str], whole: str) -> Metrics:
    """What leaving inputs out costs: area under regret over the first ``ABLATED`` trials minus that of ``whole``, fits
    averaged, paired over tasks."""
    metrics: Metrics = {}
    for label in labels:
        if label != whole:
            tasks = ledger.tasks(setting, (label, whole))
            lost = np.subtract(*(areas(ledger, setting, each, tasks, ABLATED) for each in (label, whole)))
            metrics |= with_interval(f"{setting}.ablation.{label}.delta", lost, np.mean)
    return metrics


def sampler_table(
    metrics: Metrics, title: str, labels: Sequence[str], budgets: Mapping[str, int], prefix: str | None = None
) -> list[str]:
    """One row a sampler: median trials, share censored, mean (median) regret at trial counts, ranks."""
    setting = prefix or title

    def at(label: str, count: int) -> str:
        mean = metrics.get(f"{setting}.regret.{label}.{count}")
        return "" if mean is None else f"{mean:.3f} ({metrics[f'{setting}.median_regret.{label}.{count}']:.3f})"

    shown = [count for count in SHOWN if any(at(label, count) for label in labels)]
    suffixes = [s for s in ("_10", "") if any(f"{setting}.mean_rank{s}.{label}" in metrics for label in labels)]
    rows = []
    for label in labels:
        trials = metrics[f"{setting}.median_trials.{label}"]
        ranks = [metrics.get(f"{setting}.mean_rank{suffix}.{label}") for suffix in suffixes]
        rows.append(
            [
                label,
                f">{budgets[label]}" if trials > budgets[label] else f"{trials:g}",
                f"{metrics[f'{setting}.censored.{label}']:.0%}",
                *(at(label, count) for count in shown),
                *("" if rank is None else f"{rank:.2f}" for rank in ranks),
            ]
        )
    ranks_of = {"_10": "rank 10", "": "rank 30"}
    columns = [title, "trials", "censored", *(f"@{count}" for count in shown), *(ranks_of[s] for s in suffixes)]
    return table(columns, rows)
