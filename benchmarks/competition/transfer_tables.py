"""What the searches over a method's knobs come to: metrics and tables of one method and goal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata

from benchmarks.competition.runs import UNGUARDED
from benchmarks.competition.tables import (
    ABLATED,
    TRAP_GRACE,
    TRAP_RATIO,
    area_ratio,
    in_words,
    regret_metrics,
    trap_of,
    trap_words,
    wins_of,
    with_interval,
)
from benchmarks.harness import Metrics, table
from ssdtune.arrays import Array
from ssdtune.report.ranking import rank_test
from ssdtune.report.regret import area_under_regret

TRIALS, SHOWN = 10, (1, 3, 5, 10)
TRANSFER, ALONE, PUBLISHED, RANDOM = "transfer", "no-members", "published", "random"


def report(
    prefix: str,
    runs: Mapping[str, Array],
    ablated: Mapping[str, Array],
    wrong: Mapping[str, Mapping[str, Array]],
    lines: list[str],
) -> Metrics:
    """Metrics and the table of one method and goal; regrets by name, each (tasks, fits, trials), of wrong priors by
    their kind and how they are searched. ``runs`` holds the unguarded search and remedies too; ablations are unguarded.
    """
    early = {name: each[:, :, :TRIALS] for name, each in runs.items()}
    metrics, rows = regret_metrics(prefix, early, SHOWN, "first trials by")
    regrets = {name: each.mean(axis=1) for name, each in early.items()}
    saved = regrets[PUBLISHED][:, 2] - regrets[TRANSFER][:, 2]
    metrics |= with_interval(f"{prefix}.gain_3", saved, np.mean)
    lines += ["", f"`{prefix}`, {len(saved)} tasks:", "", *rows]
    words = in_words(metrics, f"{prefix}.gain_3")
    lines.append(f"\nThree trials by the prior rather than by the published settings save {words}.")
    metrics |= compare(prefix, {name: regrets[name] for name in (TRANSFER, ALONE, PUBLISHED, RANDOM)}, lines)
    metrics |= trapped(prefix, runs, lines)
    metrics |= mislead(prefix, wrong, early, lines)
    whole = area_under_regret(regrets[UNGUARDED], ABLATED)
    deltas = []
    for name, fits in ablated.items():
        key = f"{prefix}.ablation.{name}.delta"
        metrics |= with_interval(key, area_under_regret(fits.mean(axis=1), ABLATED) - whole, np.mean)
        deltas.append(f"{name} {in_words(metrics, key)}")
    if deltas:
        lines.append(f"\nMean regret over {ABLATED} trials, unguarded, minus that of all inputs: {'; '.join(deltas)}.")
    return metrics


def compare(prefix: str, regrets: Mapping[str, Array], lines: list[str]) -> Metrics:
    """Ranks and wins. A study by TPE does in its first ten trials what ``published`` does: the published settings,
    then draws."""
    area = {name: area_under_regret(each, TRIALS) for name, each in regrets.items()}
    test = rank_test(area)
    metrics: Metrics = {f"{prefix}.critical_difference": test.critical_difference}
    ranks = rankdata(list(area.values()), axis=0)
    for name, own in zip(area, ranks, strict=True):
        metrics |= with_interval(f"{prefix}.mean_rank.{name}", own, np.mean)
    for rival, name in ((PUBLISHED, "tpe"), (ALONE, "no_prior")):
        metrics |= wins_of(f"{prefix}.win_rate_vs_{name}", area[TRANSFER], area[rival])
    order = ", ".join(f"{name} {rank:.2f}" for name, rank in test.mean_ranks.items())
    lines.append(
        f"\nMean ranks of area under regret: {order} (critical difference {test.critical_difference:.2f}). Against "
        f"{PUBLISHED} {TRANSFER} is ahead on {metrics[f'{prefix}.win_rate_vs_tpe']:.0%} of tasks, against {ALONE} on "
        f"{metrics[f'{prefix}.win_rate_vs_no_prior']:.0%}."
    )
    return metrics


def trapped(prefix: str, runs: Mapping[str, Array], lines: list[str]) -> Metrics:
    """On how many tasks the prior is a trap, as it is searched and in other ways, whose name is in its metrics."""
    metrics: Metrics = {}
    words = []
    for name in (name for name in runs if name not in (ALONE, PUBLISHED, RANDOM)):
        own = prefix if name == TRANSFER else f"{prefix}.{name}"
        metrics |= trap_of(own, runs[name], runs[ALONE])
        words.append(f"{name} {trap_words(metrics, own)}")
    lines.append(f"\nMore than {TRAP_RATIO} times the trials of {ALONE}, beyond {TRAP_GRACE}: {'; '.join(words)}.")
    return metrics


def mislead(
    prefix: str, wrong: Mapping[str, Mapping[str, Array]], runs: Mapping[str, Array], lines: list[str]
) -> Metrics:
    """With a wrong prior: area under regret over that without, regret at the end minus that of published, and on how
    many tasks it is a trap."""
    metrics: Metrics = {}
    alone = area_under_regret(runs[ALONE].mean(axis=1), TRIALS)
    rows = []
    for kind, searches in wrong.items():
        for name, each in searches.items():
            own = f"{prefix}.adversarial.{kind}" if name == TRANSFER else f"{prefix}.{name}.adversarial.{kind}"
            regret = each.mean(axis=1)
            metrics |= area_ratio(f"{own}.aur_ratio", area_under_regret(regret, TRIALS), alone)
            metrics |= trap_of(own, each, runs[ALONE])
            behind = float((regret[:, -1] - runs[PUBLISHED].mean(axis=1)[:, -1]).mean())
            metrics[f"{own}.minus_tpe_{TRIALS}"] = behind
            rows.append((kind, name, in_words(metrics, f"{own}.aur_ratio"), f"{behind:+.3f}", trap_words(metrics, own)))
    found = [metrics[f"{prefix}.adversarial.{kind}.aur_ratio"] for kind in wrong]
    metrics[f"{prefix}.adversarial.aur_ratio"] = max(found)
    area = f"area under regret over that of {ALONE}"
    columns = ("wrong prior", "search", area, f"after {TRIALS}, less {PUBLISHED}", f"stuck, of {len(alone)}")
    lines += ["", *table(columns, rows)]
    return metrics
