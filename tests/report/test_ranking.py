"""Rank tests against the worked example and tables of Demsar (2006)."""

import math

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.report.ranking import critical_difference, rank_test

# Demsar (2006), table 6: AUC of four classifiers on 14 data sets (higher is better)
DEMSAR = {
    "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
    "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
    "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
    "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
}


def test_demsars_worked_example():
    outcome = rank_test({name: -np.array(column) for name, column in DEMSAR.items()})
    assert outcome.blocks == 14
    assert outcome.mean_ranks["C4.5"] == pytest.approx(3.143, abs=1e-3)
    assert outcome.mean_ranks["C4.5+m"] == pytest.approx(2.000, abs=1e-3)
    assert outcome.mean_ranks["C4.5+cf"] == pytest.approx(2.893, abs=1e-3)
    assert outcome.mean_ranks["C4.5+m+cf"] == pytest.approx(1.964, abs=1e-3)
    # the paper's chi2 is 9.28 (F = 3.69) without the correction for ties, which scipy divides by
    table = np.array(list(DEMSAR.values())).T
    tied = sum((counts**3 - counts).sum() for counts in (np.unique(row, return_counts=True)[1] for row in table))
    plain = 12 * 14 / (4 * 5) * (sum(rank**2 for rank in outcome.mean_ranks.values()) - 4 * 5**2 / 4)
    assert plain == pytest.approx(9.28, abs=0.01)
    chi2 = plain / (1 - tied / (14 * 4 * (4**2 - 1)))
    assert outcome.statistic == pytest.approx(13 * chi2 / (14 * 3 - chi2))
    assert outcome.p_value < 0.05
    assert outcome.critical_difference == pytest.approx(1.25, abs=0.01)


@pytest.mark.parametrize(
    ("samplers", "quantile"),
    list(enumerate([1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164], start=2)),
)
def test_nemenyi_quantiles_are_those_of_table_5(samplers, quantile):
    got = critical_difference(samplers, 1) / math.sqrt(samplers * (samplers + 1) / 6)
    assert got == pytest.approx(quantile, abs=0.0015)


def test_groups_are_maximal_runs_of_samplers_that_do_not_differ():
    rng = np.random.default_rng(0)
    noise = rng.random((4, 30))
    outcome = rank_test({"good": noise[0], "as good": noise[1], "bad": noise[2] + 5, "as bad": noise[3] + 5})
    assert [set(group) for group in outcome.groups] == [{"good", "as good"}, {"bad", "as bad"}]


def test_ranks_sum_to_what_ranks_sum_to_and_ties_share():
    outcome = rank_test({"a": np.zeros(4), "b": np.zeros(4), "c": np.ones(4)})
    assert outcome.mean_ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert sum(outcome.mean_ranks.values()) == pytest.approx(6)


def test_all_alike_is_no_difference_and_all_ordered_is_the_strongest():
    assert rank_test({name: np.ones(5) for name in "abc"}).p_value == 1.0
    ordered = rank_test({name: np.full(5, float(place)) for place, name in enumerate("abc")})
    assert ordered.p_value == 0.0
    assert list(ordered.mean_ranks) == ["a", "b", "c"]


def test_two_samplers_are_compared_by_wilcoxon():
    rng = np.random.default_rng(0)
    outcome = rank_test({"a": rng.random(20), "b": rng.random(20) + 1})
    assert outcome.test.startswith("Wilcoxon")
    assert outcome.p_value < 1e-4


@pytest.mark.parametrize(
    "losses", [{"a": np.ones(3)}, {"a": np.ones(3), "b": np.ones(4)}, {"a": np.ones(1), "b": np.ones(1)}]
)
def test_too_little_to_compare_is_refused(losses):
    with pytest.raises(ConfigError, match="at least two samplers"):
        rank_test(losses)
