"""Experts weighed by their data: right priors gain, wrong ones lose their say, trials under way are believed."""

import numpy as np
import pytest

from ssdtune.plane.settings import Box, Settings, maximise
from ssdtune.plane.surface import ResponseSurface
from ssdtune.surrogate.belief import Belief, Expert, Observations, experts_of, squash
from ssdtune.surrogate.improvement import Goal

GOAL = Goal(0.2, 0.95)


def observe(surface, alpha, lam, member=0):
    y = surface.at(alpha, lam)[member]
    return Observations(Settings(np.asarray(alpha, float), np.asarray(lam, float)), y, np.zeros_like(y))


def mirrored(surface):
    turned = surface.stacked[:, :, ::-1, ::-1]
    axes = surface.log_rho, surface.log_kappa, surface.log_alpha
    return ResponseSurface(*axes, turned[:, 0], turned[:, 1], surface.residual_sd, surface.length_scales)


def test_the_data_decide_between_the_prior_and_the_generic_ensemble(make_surface):
    truth, wrong = make_surface(members=1, spread=0.0), make_surface(offset=1.5)
    data = observe(truth, [30.0, 5.0, 1.0], [10.0, 1.0, 0.5])
    assert Belief(experts_of(make_surface()), GOAL).trust == pytest.approx(0.9, abs=0.02)
    assert Belief(experts_of(make_surface()), GOAL, data).trust > 0.97
    assert Belief(experts_of(wrong), GOAL, data).trust < 0.3
    assert Belief(experts_of(make_surface(trust=0.2)), GOAL).trust < 0.25
    assert Belief(experts_of(None), GOAL, data).trust == 0


def test_a_prior_that_contradicts_the_untouched_model_is_not_believed(make_surface):
    surface = make_surface()
    flat = np.full_like(surface.retained, 0.6)
    axes = surface.log_rho, surface.log_kappa, surface.log_alpha
    constant = ResponseSurface(*axes, flat, flat, surface.residual_sd, surface.length_scales)
    for wrong in (mirrored(surface), constant):
        assert Belief(experts_of(wrong), GOAL).trust < 0.01


@pytest.mark.parametrize("basis", [0, 4])
def test_improvement_is_that_of_the_member_the_data_single_out(make_surface, basis):
    surface = make_surface(members=6, spread=0.25)
    box = Box((0.2, 90.0), (0.01, 90.0))
    grid = box.grid()
    data = observe(surface, grid.alpha[::25], grid.lam[::25], member=2)
    belief = Belief([Expert(surface, basis=basis)], GOAL, data)
    best = maximise(belief.improvement, box, np.random.default_rng(0))
    truth = surface.at(grid.alpha, grid.lam)[2]
    reached = surface.at(best.alpha, best.lam)[2]
    optimum = np.where(GOAL.feasible(truth[0]), GOAL.score(*truth), 0).max()
    assert GOAL.feasible(reached[0] + 0.01)[0]
    assert GOAL.score(*reached)[0] > optimum - 0.03


def test_nothing_is_gained_where_nothing_is_left_to_learn(make_surface):
    surface = make_surface()
    belief = Belief(experts_of(surface), GOAL)
    some = maximise(belief.improvement, Box(), np.random.default_rng(0))
    waiting = Belief(experts_of(surface), GOAL, pending=some)
    assert waiting.improvement(some)[0] < 0.5 * belief.improvement(some)[0]
    assert (belief.improvement(Box().grid()) >= 0).all()
    assert Belief(experts_of(surface), GOAL, incumbent=1.0).improvement(some)[0] < 1e-6


def test_clipped_observations_only_say_beyond(make_surface):
    surface = make_surface(members=1, spread=0.0)
    where = Settings(np.array([0.2]), np.array([0.002]))  # remembered is below 0 there
    truth = surface.at(where.alpha, where.lam)[0]
    assert truth[1, 0] < -0.05
    clipped = np.clip(truth, 0, 1)
    exact, censored = (
        Belief([Expert(surface)], GOAL, Observations(where, y, np.zeros((2, 1)))) for y in (truth, clipped)
    )
    grid = Box().grid()
    np.testing.assert_allclose(exact.improvement(grid), censored.improvement(grid), atol=1e-3)


def test_squash_is_the_identity_inside_and_bounded_outside():
    y = np.linspace(0, 1, 11)
    np.testing.assert_array_equal(squash(y), y)
    far = squash(np.array([-50.0, -0.1, 1.1, 50.0]))
    np.testing.assert_allclose(far, [-1, -0.0997, 1.0997, 2], atol=1e-3)


def test_noisy_observations_weigh_less(make_surface):
    truth, wrong = make_surface(members=1, spread=0.0), make_surface(offset=1.0)
    sure = observe(truth, [5.0], [1.0])
    vague = Observations(sure.settings, sure.y, np.full((2, 1), 1.0))
    assert Belief(experts_of(wrong), GOAL, sure).trust < Belief(experts_of(wrong), GOAL, vague).trust
