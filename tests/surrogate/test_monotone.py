"""A harsher dampening does not undo damage: what trials say of settings in order with them."""

import numpy as np
import pytest

from ssdtune.plane.settings import Settings
from ssdtune.surrogate.improvement import Goal, expected_improvement
from ssdtune.surrogate.monotone import MonotoneBounds

KNOWN = Settings(np.array([10.0, 5.0]), np.array([4.0, 1.0]))
Y = np.array([[0.97, 0.90], [0.6, 0.2]])


def known(y=Y, noise=0.0):
    return MonotoneBounds(KNOWN, y, np.full(y.shape, noise))


def at(alpha, lam, **trials):
    return known(**trials).bounds(Settings(np.array([alpha]), np.array([lam])))


def test_a_setting_between_two_trials_lies_between_their_outputs():
    low, high = at(7.0, 2.0)
    np.testing.assert_allclose(low[:, 0], [0.90 - 0.002, 0.2 - 0.01])
    np.testing.assert_allclose(high[:, 0], [0.97 + 0.002, 0.6 + 0.01])


@pytest.mark.parametrize(("alpha", "lam", "least", "most"), [(20.0, 8.0, 0.968, 9), (2.0, 0.5, -9, 0.902)])
def test_milder_than_all_is_bounded_below_and_harsher_than_all_above(alpha, lam, least, most):
    low, high = at(alpha, lam)
    np.testing.assert_allclose([low[0, 0], high[0, 0]], [least, most])


def test_settings_that_are_milder_in_one_and_harsher_in_the_other_are_not_bounded():
    low, high = at(20.0, 0.5)
    assert low[0, 0] == -9 and high[0, 0] == 9


def test_lambda_above_alpha_counts_as_the_setting_it_equals():
    np.testing.assert_allclose(at(4.0, 9.0), at(9.0, 9.0), rtol=1e-12)


def test_estimates_bound_by_their_error_less():
    np.testing.assert_allclose(at(2.0, 0.5, noise=0.01)[1][0, 0], 0.90 + 0.002 + 0.02)


def test_trials_out_of_order_raise_the_probability_of_a_surprise_and_leave_room():
    turned = Y[:, ::-1]
    low, high = at(7.0, 2.0, y=turned)
    assert known(y=turned).surprise > known().surprise
    assert (low < high).all()


def test_improvement_within_bounds_is_the_mean_gain_of_the_truncated_normal():
    goal, incumbent = Goal(0.2, 0.95), 0.3
    mean, cov = np.array([[[0.95], [0.5]]]), np.array([[[4e-4], [0.0]], [[0.0], [1e-4]]])
    low, high = np.array([[0.94], [-9.0]]), np.array([[0.965], [9.0]])
    rng = np.random.default_rng(0)
    retained, remembered = rng.normal(0.95, 0.02, 400_000), rng.normal(0.5, 0.01, 400_000)
    inside = (retained > low[0]) & (retained < high[0])
    gain = np.where(goal.feasible(retained), np.maximum(goal.score(retained, remembered) - incumbent, 0), 0)[inside]
    got = expected_improvement(mean, cov, incumbent, goal, low, high)[0, 0]
    assert got == pytest.approx(gain.mean(), abs=5 * gain.std() / np.sqrt(gain.size))


def test_nothing_is_gained_where_the_bounds_rule_feasibility_out():
    mean, cov = np.array([[[0.99], [0.1]]]), np.array([[[1e-4], [0.0]], [[0.0], [1e-3]]])
    bound = expected_improvement(mean, cov, 0.2, Goal(0.2, 0.95), np.array([[-9.0], [-9.0]]), np.array([[0.93], [9.0]]))
    assert bound[0, 0] == 0
