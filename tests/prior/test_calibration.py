"""Calibration recovers what held-out errors were made with."""

import numpy as np
import pytest

from ssdtune.learning.fit import hold_out
from ssdtune.learning.training import Recipe
from ssdtune.prior.assess import COVERAGES, Assessment, assess
from ssdtune.prior.calibration import LEVELS, Calibration, HeldOut, calibrate, log_likelihood
from ssdtune.prior.points import folds


def held_out(sd, seed, members=1, n=150, smooth=False):
    rng = np.random.default_rng(seed)
    u = np.stack([rng.uniform(-3, 0, n), rng.uniform(-2, 0, n)], axis=1)
    truth = rng.uniform(0.05, 0.95, (members, n, 2))
    noise = rng.standard_normal((n, 2))
    if smooth:
        noise = np.stack([np.sin(2 * u[:, 0] + rng.uniform(0, 6)), np.cos(2 * u[:, 0] + rng.uniform(0, 6))], axis=1)
    return HeldOut(truth, truth[0] + sd * noise, u)


def test_the_residual_is_found():
    found = calibrate([held_out(np.array([0.03, 0.1]), seed) for seed in range(12)])
    inner = (LEVELS >= 0.2) & (LEVELS <= 0.8)
    np.testing.assert_allclose(found.residual_sd[0, inner], 0.03, rtol=0.15)
    np.testing.assert_allclose(found.residual_sd[1, inner], 0.1, rtol=0.15)


def test_the_member_that_fits_is_weighed_most():
    """With many wild members beside the true one, the residual is still that of the true one."""
    found = calibrate([held_out(np.array([0.03, 0.06]), seed, members=20) for seed in range(12)])
    assert found.residual_sd[0, 4] == pytest.approx(0.03, rel=0.25)


def test_smooth_residuals_have_longer_length_scales_than_rough_ones():
    rough = calibrate([held_out(np.array([0.05, 0.05]), seed) for seed in range(8)])
    smooth = calibrate([held_out(np.array([0.05, 0.05]), seed, smooth=True) for seed in range(8)])
    assert smooth.length_scales[0, 0] > rough.length_scales[0, 0]


def test_the_likelihood_prefers_the_true_residual():
    task = held_out(np.array([0.03, 0.1]), 0)
    at = {
        sd: log_likelihood(task, Calibration(np.array([[sd], [3.3 * sd]]).repeat(10, 1), np.ones((2, 2)), 0.0))
        for sd in (0.01, 0.03, 0.1)
    }
    assert max(at, key=at.get) == 0.03


def test_families_stay_whole_and_folds_are_even():
    families = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d", "e", "f"] * 2
    found = folds(families, 3)
    assert all(len({fold for fold, own in zip(found, families, strict=True) if own == name}) == 1 for name in families)
    sizes = [found.count(fold) for fold in range(3)]
    assert sum(sizes) == len(families)
    assert max(sizes) - min(sizes) <= 2


def test_an_assessment_counts_every_task_once(experiences):
    found = hold_out(experiences, recipe=Recipe(networks=1, hidden=16, epochs=20, batch=128))
    assert [task.key for task in found.tasks] == sorted(each.key for each in experiences)
    summary = found.summary()
    assert summary["families"] == 4
    for output in ("retained", "remembered"):
        shares = [summary[f"coverage{100 * level:g}_{output}"] for level in COVERAGES]
        assert shares == sorted(shares)
    assert all(regret >= -1e-12 for task in found.tasks for regret in task.regret.values())
    assert Assessment.from_json(found.to_json()).summary() == summary
    assert assess([], Calibration(np.ones((2, 10)), np.ones((2, 2)), 0.0)).summary() == {"tasks": 0.0}
