"""Do samplers differ over tasks? Mean ranks with a Friedman test and the Nemenyi critical difference.

Source: J. Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), section 3.2.
Notation: k samplers, N blocks (tasks), R_j the mean rank of sampler j (1 is best, ties share their mean rank).

    chi2_F = 12 N / (k (k + 1)) * (sum_j R_j^2 - k (k + 1)^2 / 4)      Friedman, k - 1 degrees of freedom
    F_F    = (N - 1) chi2_F / (N (k - 1) - chi2_F)                     Iman & Davenport, k - 1 and (k - 1)(N - 1)
    CD     = q_level,k * sqrt(k (k + 1) / (6 N))                       Nemenyi

q_level,k is the studentized range quantile with infinitely many degrees of freedom, divided by sqrt(2). chi2_F is
corrected for ties (scipy). For k = 2 Demsar recommends Wilcoxon's signed-rank test in place of Friedman's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ssdtune.errors import ConfigError

LEVEL = 0.05  # of significance


@dataclass(frozen=True)
class RankTest:
    """Outcome of a rank comparison.

    mean_ranks : sampler -> mean rank, best first. blocks : N. test : which test ``statistic`` and ``p_value`` are of.
    critical_difference : mean ranks at least this far apart differ at ``level``.
    groups : maximal sets of samplers, neighbours in rank, that do not differ; the bars of the diagram.
    """

    mean_ranks: dict[str, float]
    blocks: int
    test: str
    statistic: float
    p_value: float
    level: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


def rank_test(losses: Mapping[str, np.ndarray]) -> RankTest:
    """Compare samplers by ``losses[sampler]`` (blocks,), lower is better.

    Raises ConfigError: fewer than two samplers or blocks, or samplers with different blocks.
    """
    names = list(losses)
    columns = [np.asarray(losses[name], float) for name in names]
    if len(names) < 2 or columns[0].ndim != 1 or len(columns[0]) < 2 or len({len(column) for column in columns}) > 1:
        what = "ranks need at least two samplers on the same two or more tasks"
        raise ConfigError(what, "competition", "add tasks or seeds")
    table = np.stack(columns, axis=1)
    blocks, count = table.shape
    ranks = stats.rankdata(table, axis=1).mean(axis=0)
    ordered = dict(sorted(zip(names, ranks.tolist(), strict=True), key=lambda pair: pair[1]))
    test, statistic, p_value = _global_test(table)
    distance = critical_difference(count, blocks)
    return RankTest(ordered, blocks, test, statistic, p_value, LEVEL, distance, _groups(ordered, distance))


def critical_difference(samplers: int, blocks: int, level: float = LEVEL) -> float:
    """Nemenyi's critical difference of mean ranks (Demsar 2006, section 3.2.2 and table 5)."""
    quantile = stats.studentized_range.ppf(1 - level, samplers, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(samplers * (samplers + 1) / (6 * blocks)))


def _global_test(table: np.ndarray) -> tuple[str, float, float]:
    """(name, statistic, p) of the test that all samplers are alike, from losses (blocks, samplers)."""
    blocks, count = table.shape
    if (table == table[:, :1]).all():
        return "Friedman", 0.0, 1.0
    if count == 2:
        outcome = stats.wilcoxon(table[:, 0], table[:, 1])
        return "Wilcoxon signed-rank", float(outcome.statistic), float(outcome.pvalue)
    chi2 = float(stats.friedmanchisquare(*table.T).statistic)
    room = blocks * (count - 1) - chi2
    if room <= 1e-9:  # every block ranks the samplers alike: F_F is infinite
        return "Friedman (Iman-Davenport)", math.inf, 0.0
    statistic = (blocks - 1) * chi2 / room
    p_value = float(stats.f.sf(statistic, count - 1, (count - 1) * (blocks - 1)))
    return "Friedman (Iman-Davenport)", statistic, p_value


def _groups(ranks: Mapping[str, float], distance: float) -> tuple[tuple[str, ...], ...]:
    names, values = list(ranks), list(ranks.values())
    groups: list[tuple[str, ...]] = []
    last_end = 0
    for start in range(len(names)):
        end = max(index for index in range(start, len(names)) if values[index] - values[start] < distance) + 1
        if end - start > 1 and end > last_end:
            groups.append(tuple(names[start:end]))
            last_end = end
    return tuple(groups)
