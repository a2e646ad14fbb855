"""Regret statistics against hand-worked cases and identities."""

import math

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.report.regret import (
    area_under_regret,
    block_curves,
    block_trials,
    incumbent_regret,
    mean_band,
    solved_curve,
    trials_to_target,
    win_rate,
)


def test_incumbent_starts_from_the_untouched_model_and_skips_infeasible_trials():
    values = np.array([0.1, 0.9, 0.5, math.nan, 0.7])
    feasible = np.array([True, False, True, True, True])
    regret = incumbent_regret(values, feasible, best_known=0.8, start=0.2)
    np.testing.assert_allclose(regret, [0.6, 0.6, 0.3, 0.3, 0.1])


def test_incumbent_regret_never_rises_and_is_never_negative():
    values = np.random.default_rng(0).random((3, 4, 20))
    regret = incumbent_regret(values, np.ones_like(values), best_known=np.full((3, 4), 0.9), start=0.2)
    assert (np.diff(regret, axis=-1) <= 0).all()
    assert regret.min() == 0.0


def test_seeds_are_averaged_within_tasks_and_are_the_blocks_of_a_single_task():
    runs = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_allclose(block_curves(runs), runs.mean(1))
    np.testing.assert_array_equal(block_curves(runs[:1]), runs[0])


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((0, 2, 3)), np.full((1, 1, 2), np.nan)])
def test_runs_of_the_wrong_shape_are_refused(bad):
    with pytest.raises(ConfigError, match="tasks, seeds, trials"):
        block_curves(bad)


def test_trials_to_target_is_censored_at_the_budget():
    runs = np.array([[[0.5, 0.01, 0.0], [0.5, 0.4, 0.3], [0.005, 0.0, 0.0]]])
    np.testing.assert_array_equal(trials_to_target(runs), [[2, math.inf, 1]])
    np.testing.assert_array_equal(block_trials(runs), [2, math.inf, 1])
    np.testing.assert_array_equal(block_trials(np.concatenate([runs, runs])), [2, 2])


def test_band_holds_the_mean_and_shrinks_with_blocks():
    rng = np.random.default_rng(1)
    few, many = rng.random((5, 3)), rng.random((500, 3))
    for curves in (few, many):
        band = mean_band(curves)
        assert (band.low <= band.centre).all()
        assert (band.centre <= band.high).all()
    assert (mean_band(many).high - mean_band(many).low < mean_band(few).high - mean_band(few).low).all()
    # the bootstrap of a mean is near normal: half width about 1.96 standard errors
    expected = 1.96 * many.std(0) / math.sqrt(500)
    np.testing.assert_allclose((mean_band(many).high - mean_band(many).low) / 2, expected, rtol=0.1)


def test_band_of_one_block_is_unknown_and_of_equal_blocks_has_no_width():
    assert np.isnan(mean_band(np.ones((1, 3))).low).all()
    band = mean_band(np.ones((4, 3)))
    np.testing.assert_allclose(band.high, band.low)


def test_solved_curve_is_the_share_of_runs_where_censoring_is_at_the_budget():
    trials = np.array([1, 3, 3, math.inf])
    curve = solved_curve(trials, budget=5)
    np.testing.assert_array_equal(curve.trials, range(6))
    np.testing.assert_allclose(curve.share, [0, 0.25, 0.25, 0.75, 0.75, 0.75])
    assert (curve.low <= curve.share + 1e-12).all()
    assert (curve.share <= curve.high + 1e-12).all()


def test_solved_curve_of_runs_that_all_or_never_arrive():
    assert solved_curve(np.full(3, math.inf), 4).share.max() == 0
    np.testing.assert_allclose(solved_curve(np.ones(3), 4).share, [0, 1, 1, 1, 1])


def test_area_is_the_mean_regret_of_the_first_trials():
    assert area_under_regret(np.array([0.4, 0.2, 0.0, 0.0]), 3) == pytest.approx(0.2)


def test_win_rate_counts_ties_half_and_is_antisymmetric():
    ours, theirs = np.array([0.1, 0.2, 0.3, 0.0]), np.array([0.2, 0.2, 0.1, 0.5])
    assert win_rate(ours, theirs) == pytest.approx(0.625)
    assert win_rate(ours, theirs) + win_rate(theirs, ours) == pytest.approx(1.0)
