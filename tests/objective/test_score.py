"""Score end points and the value of a non-finite trial."""

import math

import pytest

from ssdtune.errors import ConfigError
from ssdtune.objective.score import ScoreRule

RULE = ScoreRule(q_retain=0.9, q_forget=0.85, floor=0.6, retain_weight=0.2)


def test_untouched_model_scores_the_retain_weight():
    score = RULE(0.9, 0.85)
    assert score.value == pytest.approx(0.2)
    assert score.retained == 1.0
    assert score.remembered == 1.0
    assert score.feasible


def test_oracle_like_model_scores_one():
    assert RULE(0.9, 0.6).value == pytest.approx(1.0)


def test_destroyed_model_scores_below_the_oracle_and_is_infeasible():
    score = RULE(0.1, 0.05)
    assert score.value == pytest.approx(0.2 * 0.1 / 0.9 + 0.8)
    assert not score.feasible


def test_raw_score_is_the_seed_formula():
    rule = ScoreRule(q_retain=0.9, q_forget=0.85, floor=0.6, kind="raw")
    assert rule(0.5, 0.25).value == pytest.approx(0.2 * 0.5 + 0.8 * 0.75)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_quality_is_worst_and_infeasible(bad):
    score = RULE(bad, 0.5)
    assert score.value == 0.0
    assert not score.feasible


def test_nothing_to_forget_is_refused():
    with pytest.raises(ConfigError, match="nothing to forget"):
        ScoreRule(q_retain=0.9, q_forget=0.5, floor=0.6)


@pytest.mark.parametrize("key", ["retain_weight", "min_retained"])
def test_shares_outside_the_unit_interval_are_refused(key):
    with pytest.raises(ConfigError, match=key):
        ScoreRule(q_retain=0.9, q_forget=0.8, floor=0.6, **{key: 1.5})
