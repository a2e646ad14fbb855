"""Expected improvement against numerical integration, and its limits."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from ssdtune.objective.score import ScoreRule
from ssdtune.surrogate.improvement import Goal, call, clipped_call, expected_improvement

MEANS = np.array([[[0.97, 0.9, 1.02, 0.5, 0.99], [0.3, 0.6, -0.1, 0.05, 1.05]]])


def one(mean, cov, incumbent, goal):
    return expected_improvement(mean[..., None], cov[..., None], incumbent, goal)[0, 0]


@pytest.mark.parametrize("goal", [Goal(0.2, 0.0), Goal(0.2, 0.95), Goal(0.5, 0.95), Goal(0.5, 0.0), Goal(0.0, 0.5)])
@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.7])
def test_expected_improvement_equals_sampling(goal, correlation):
    rng = np.random.default_rng(0)
    sd = np.array([0.05, 0.2])
    cov = np.outer(sd, sd) * np.array([[1, correlation], [correlation, 1]])
    normals = rng.standard_normal((200_000, 2)) @ np.linalg.cholesky(cov).T
    normals = np.concatenate([normals, -normals])
    for k in range(MEANS.shape[-1]):
        drawn = MEANS[0, :, k] + normals
        gain = np.maximum(goal.score(drawn[:, 0], drawn[:, 1]) - 0.6, 0) * goal.feasible(drawn[:, 0])
        got = one(MEANS[:, :, k], cov, 0.6, goal)
        assert got == pytest.approx(gain.mean(), abs=4 * gain.std() / np.sqrt(len(gain)) + 1e-3)


@pytest.mark.parametrize("strike", [-0.3, 0.0, 0.4, 0.9, 1.2])
@pytest.mark.parametrize(("mean", "sd"), [(0.5, 0.3), (-0.2, 0.1), (1.3, 0.4)])
def test_calls_equal_numerical_integration(mean, sd, strike):
    def density(v):
        return np.exp(-0.5 * ((v - mean) / sd) ** 2) / sd / np.sqrt(2 * np.pi)

    def integrate(payoff):
        ends = np.clip([mean - 9 * sd, 0, 1, strike, mean + 9 * sd], mean - 9 * sd, mean + 9 * sd)
        ends = np.unique(ends)
        return sum(quad(lambda v: payoff(v) * density(v), a, b)[0] for a, b in pairwise(ends))

    plain = integrate(lambda v: max(v - strike, 0))
    clipped = integrate(lambda v: max(min(max(v, 0), 1) - strike, 0))
    arrays = np.array([mean]), np.array([sd]), np.array([strike])
    assert call(*arrays)[0] == pytest.approx(plain, abs=1e-7)
    assert clipped_call(*arrays)[0] == pytest.approx(clipped, abs=1e-7)


def test_certain_outputs_gain_their_score_or_nothing():
    goal, cov = Goal(0.2, 0.95), np.zeros((2, 2))
    assert one(np.array([[0.97, 0.1]]), cov, 0.5, goal) == pytest.approx(0.2 * 0.97 + 0.8 * 0.9 - 0.5, abs=1e-5)
    assert one(np.array([[0.94, 0.1]]), cov, 0.5, goal) == pytest.approx(0, abs=1e-9)
    assert one(np.array([[0.97, 0.9]]), cov, 0.5, goal) == pytest.approx(0, abs=1e-5)
    assert one(np.array([[0.94, 0.1]]), cov, 0.5, Goal(1.0, 0.0)) == pytest.approx(0.44, abs=1e-5)


def test_goal_scores_as_the_score_rule_does():
    rng = np.random.default_rng(1)
    rule = ScoreRule(q_retain=0.8, q_forget=0.9, floor=0.4, retain_weight=0.3, min_retained=0.95)
    goal = Goal(0.3, 0.95)
    for q_r, q_f in rng.uniform(0.2, 1.0, (50, 2)):
        score = rule(q_r, q_f)
        retained, remembered = q_r / 0.8, (q_f - 0.4) / 0.5
        assert float(goal.score(retained, remembered)) == pytest.approx(score.value)
        assert bool(goal.feasible(retained)) == score.feasible
    assert goal.untouched == rule(0.8, 0.9).value
