"""What the runs of a competition come to: flat metrics, and the tables that are printed and published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.competition.runs import SETTINGS, Job, regret_of
from benchmarks.harness import Metrics, table
from ssdtune.report.ranking import rank_test
from ssdtune.report.regret import area_under_regret, block_trials, win_rate

AT = (1, 3, 5, 10, 15, 30, 40)
LATE = (50, 100)
SHOWN = (1, 3, 5, 10, 30, 50, 100)
AREAS = (10, 30)
TARGET = 0.01
TRAP_RATIO, TRAP_GRACE = 1.5, 2


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


def sampler_metrics(ledger: Ledger, setting: str, label: str) -> Metrics:
    """Median trials to target (budget + 1: more than the budget), mean and median regret at trial counts."""
    runs = ledger.regret(setting, label)
    budget = runs.shape[2]
    curves = runs.mean(axis=1)
    trials = block_trials(runs, TARGET) if len(runs) > 1 else np.array([np.inf])
    metrics: Metrics = {
        f"{setting}.median_trials.{label}": min(float(np.median(trials)), budget + 1),
        f"{setting}.censored.{label}": float(np.mean(~np.isfinite(trials))),
    }
    for count in (*AT, *LATE):
        if count <= budget:
            metrics[f"{setting}.regret.{label}.{count}"] = float(curves[:, count - 1].mean())
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
        metrics |= {f"{setting}.mean_rank{suffix}.{label}": rank for label, rank in test.mean_ranks.items()}
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
    return {f"{setting}.win_rate_vs_{theirs.replace('-', '_')}": win_rate(own, other)}


def adversarial_metrics(ledger: Ledger, setting: str, wrong: Sequence[str], without: str) -> Metrics:
    """Area under regret over 30 trials with a wrong prior over that without; the worst ratio is the headline."""
    metrics: Metrics = {}
    for label in wrong:
        tasks = ledger.tasks(setting, (label, without, "tpe"))
        ours, plain = (areas(ledger, setting, each, tasks, AREAS[-1]).mean() for each in (label, without))
        at_end = [ledger.regret(setting, each, tasks).mean(axis=1)[:, AREAS[-1] - 1].mean() for each in (label, "tpe")]
        metrics[f"{setting}.adversarial.{label}.aur_ratio"] = float(ours / max(plain, 1e-9))
        metrics[f"{setting}.adversarial.{label}.minus_tpe_30"] = float(at_end[0] - at_end[1])
    ratios = [value for name, value in metrics.items() if "aur_ratio" in name]
    return {f"{setting}.adversarial.aur_ratio": max(ratios), **metrics} if ratios else {}


def trap_metrics(ledger: Ledger, setting: str, ours: str, without: str) -> Metrics:
    """Trials to the target against those without prior, task by task: the largest ratio beyond the grace of
    ``TRAP_GRACE`` trials, and on how many tasks it is above ``TRAP_RATIO``. Tasks that neither solves do not count;
    what is not reached counts as one more than the budget."""
    tasks = ledger.tasks(setting, (ours, without))
    runs = [ledger.regret(setting, label, tasks) for label in (ours, without)]
    budget = runs[0].shape[2]
    own, plain = (np.minimum(block_trials(each, TARGET), budget + 1) for each in runs)
    solved = np.minimum(own, plain) <= budget
    ratio = np.maximum(own[solved] - TRAP_GRACE, 0) / plain[solved]
    return {
        f"{setting}.trap.max_ratio": float(ratio.max(initial=0.0)),
        f"{setting}.trap.stuck_tasks": int((ratio > TRAP_RATIO).sum()),
    }


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
