"""Prototypes of adaptive schedules: their limits, where each is SSD or leaves something alone."""

import numpy as np
import pytest
import torch

from benchmarks.schedules.prototypes import KINDS, Fisher, decay, effective_rank, leading, step_projected
from ssdtune.dampening import dampen_flat


@pytest.fixture
def fisher():
    rng = torch.Generator().manual_seed(0)
    forget, retain = (torch.randn(n, 12, generator=rng) ** 3 for n in (5, 7))
    theta = torch.randn(12, generator=rng)
    f, o = (rows.square().mean(0) for rows in (forget, retain))
    return Fisher(theta, f, o, forget, retain, {"whole": [slice(0, 12)]})


def parameters(kind, fisher, **setting):
    return KINDS[kind][0](fisher)(setting)


def test_one_layer_leaves_ssd_as_it_is(fisher):
    expected = dampen_flat(fisher.theta, fisher.f, fisher.o, 0.7, 0.4)
    torch.testing.assert_close(parameters("layers-eigen", fisher, **{"alpha": 0.7, "lambda": 0.4}), expected)
    torch.testing.assert_close(
        parameters("exponent", fisher, **{"alpha": 0.7, "lambda": 0.4, "exponent": 1.0}), expected
    )


def test_a_share_of_one_layer_is_ssd_at_the_ratio_that_selects_it(fisher):
    alpha = float(fisher.r.sort(descending=True).values[2])
    found = parameters("layers-rank", fisher, rho=0.25, kappa=0.5)
    chosen = fisher.r >= alpha
    assert int(chosen.sum()) == 3
    torch.testing.assert_close(found[~chosen], fisher.theta[~chosen])
    torch.testing.assert_close(found[chosen], (fisher.theta * 0.5 * alpha / fisher.r)[chosen])


def test_power_dampens_nothing_at_exponent_zero_and_as_ssd_at_one(fisher):
    near = parameters("power", fisher, **{"lambda": 0.5, "exponent": 1e-9})
    torch.testing.assert_close(near, fisher.theta)
    found = parameters("power", fisher, **{"lambda": 0.5, "exponent": 1.0})
    torch.testing.assert_close(found, dampen_flat(fisher.theta, fisher.f, fisher.o, 0.5, 0.5))


def test_the_projected_step_moves_no_retain_eigenvector(fisher):
    seen = leading(fisher.retain)
    torch.testing.assert_close(seen @ seen.T, torch.eye(len(seen)), atol=1e-5, rtol=0)
    step = step_projected(fisher)({"alpha": 0.1, "lambda": 0.1}) - fisher.theta
    assert step.norm() > 0.01 and (seen @ step).abs().max() < 1e-5


def test_figures_of_a_spectrum():
    assert effective_rank(np.ones(4)) == pytest.approx(4) and effective_rank(np.zeros(3)) == 0
    assert decay(np.arange(1, 9) ** -1.5) == pytest.approx(1.5)
