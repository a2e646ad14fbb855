"""Proposals: inside narrow boxes, apart from each other, ahead of random search."""

import numpy as np
import pytest

from ssdtune.plane.settings import NOWHERE, Box, Settings
from ssdtune.samplers.acquisition import Acquisition, Pending
from ssdtune.surrogate.belief import Observations
from ssdtune.surrogate.improvement import Goal

BOXES = [Box(), Box((3.0, 3.0 * (1 + 1e-9)), (0.5, 20.0)), Box((2.0, 2.0), (1.0, 1.0)), Box((0.1, 0.2), (10.0, 20.0))]


def outputs(settings):
    """(2, n) unclipped: both fall with damage; the forget set is forgotten before the retain set suffers."""
    log_alpha, log_kappa = settings.logs()
    damage = -log_alpha - 0.4 * log_kappa
    return np.stack([1 / (1 + np.exp(4 * (damage - 0.4))), 1 / (1 + np.exp(6 * (damage + 0.3)))])


def acquisition(goal, settings=NOWHERE):
    y = outputs(settings)
    score = np.where(goal.feasible(y[0]), goal.score(y[0], y[1]), 0)
    return Acquisition(None, goal, Observations(settings, y, np.zeros_like(y)), max([goal.untouched, *score]))


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_proposals_stay_inside_the_box(box):
    some = Settings(np.array([1.0, 20.0]), np.array([0.5, 2.0]))
    for each in (acquisition(Goal()), acquisition(Goal(), some)):
        found = each.propose(Pending(waiting=1), box, np.random.default_rng(0))
        assert len(found) == 1
        assert box.alpha[0] <= found.alpha[0] <= box.alpha[1]
        assert box.lam[0] <= found.lam[0] <= box.lam[1]


@pytest.mark.parametrize("goal", [Goal(0.2, 0.0), Goal(0.2, 0.95), Goal(0.5, 0.95)])
def test_fifteen_proposals_without_a_prior_come_near_the_best(goal):
    box, settings = Box(), NOWHERE
    for trial in range(15):
        rng = np.random.default_rng(trial)
        settings = settings + acquisition(goal, settings).propose(Pending(), box, rng)
    grid = box.grid(per_axis=100)
    y = outputs(grid)
    best = np.where(goal.feasible(y[0]), goal.score(y[0], y[1]), 0).max()
    assert acquisition(goal, settings).incumbent > best - 0.02


def test_trials_under_way_are_kept_apart_and_waiting_ones_are_foreseen():
    some = Settings(np.array([30.0, 3.0]), np.array([3.0, 1.0]))
    state = acquisition(Goal(0.2, 0.95), some)
    chosen = NOWHERE
    for _ in range(4):
        chosen = chosen + state.propose(Pending(running=chosen), Box(), np.random.default_rng(0))
    for k in range(1, 4):
        assert chosen.take([k]).distance_to(chosen.take(range(k)))[0] > 0.02
    foreseen = state.propose(Pending(waiting=1), Box(), np.random.default_rng(0))
    assert foreseen.distance_to(chosen.take([0]))[0] > 0.02
    again = state.propose(Pending(failed=chosen), Box(), np.random.default_rng(0))
    assert again.distance_to(chosen)[0] >= 0.01


def test_a_box_that_is_used_up_still_gives_a_setting():
    one = Box((2.0, 2.0), (1.0, 1.0))
    found = acquisition(Goal(), Settings(np.array([2.0]), np.array([1.0]))).propose(
        Pending(), one, np.random.default_rng(0)
    )
    assert (found.alpha[0], found.lam[0]) == (2.0, 1.0)
