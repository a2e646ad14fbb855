"""The SSD rule against a literal transcription of the published code, and its identities."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdtune.dampening import dampen, dampen_flat, dampening_factors
from ssdtune.errors import ConfigError


def published_rule(theta, f, o, alpha, lam, exponent):
    """ParameterPerturber.modify_weight of the SSD authors' code, on one tensor (lower_bound = 1)."""
    theta = theta.clone()
    oimp_norm = o.mul(alpha)
    locations = torch.where(f > oimp_norm)
    weight = ((o.mul(lam)).div(f)).pow(exponent)
    update = weight[locations]
    min_locs = torch.where(update > 1)
    update[min_locs] = 1
    theta[locations] = theta[locations].mul(update)
    return theta


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    alpha=st.floats(1e-2, 1e3),
    lam=st.floats(1e-2, 1e3),
    exponent=st.sampled_from([0.5, 1.0, 2.0]),
    zeros=st.sampled_from([0.0, 0.3]),
)
def test_equals_the_published_rule(seed, alpha, lam, exponent, zeros):
    generator = torch.Generator().manual_seed(seed)
    theta, f, o = (torch.randn(3, 7, generator=generator, dtype=torch.float64) for _ in range(3))
    f, o = f.square(), o.square()
    f[torch.rand(f.shape, generator=generator) < zeros] = 0
    o[torch.rand(o.shape, generator=generator) < zeros] = 0
    ours = dampen({"w": theta}, {"w": f}, {"w": o}, alpha, lam, exponent)["w"]
    torch.testing.assert_close(ours, published_rule(theta, f, o, alpha, lam, exponent), rtol=1e-12, atol=0)


def ratios(*values):
    return torch.tensor(values, dtype=torch.float64), torch.ones(len(values), dtype=torch.float64)


def test_a_ratio_equal_to_alpha_is_not_selected():
    f, o = ratios(2.0, 2.0 + 1e-12)
    assert dampening_factors(f, o, alpha=2.0, lam=1.0).tolist() == pytest.approx([1.0, 0.5])


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), alpha=st.floats(1e-2, 1e2), factor=st.floats(1, 1e2))
def test_lambda_above_alpha_equals_both_at_lambda(seed, alpha, factor):
    f, o = torch.rand(2, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    lam = alpha * factor
    torch.testing.assert_close(dampening_factors(f, o, alpha, lam), dampening_factors(f, o, lam, lam))


def test_exponent_powers_the_factor():
    f, o = ratios(4.0)
    assert dampening_factors(f, o, 1.0, 1.0, exponent=2.0).item() == pytest.approx(1 / 16)


def test_zero_forget_is_never_selected_and_zero_retain_always():
    f, o = torch.tensor([0.0, 0.0, 1e-8]), torch.tensor([0.0, 1.0, 0.0])
    assert dampening_factors(f, o, 10.0, 1.0).tolist() == [1.0, 1.0, 0.0]


def test_alpha_above_every_ratio_changes_nothing():
    f, o = ratios(0.1, 5.0, 9.9)
    theta = {"w": torch.randn(3, dtype=torch.float64)}
    assert torch.equal(dampen(theta, {"w": f}, {"w": o}, 10.0, 0.1)["w"], theta["w"])


def test_nothing_is_mutated():
    theta, f, o = torch.randn(5), torch.rand(5) * 9, torch.rand(5)
    before = [value.clone() for value in (theta, f, o)]
    dampen({"w": theta}, {"w": f}, {"w": o}, 1.0, 0.5)
    assert all(torch.equal(left, right) for left, right in zip(before, (theta, f, o), strict=True))


@pytest.mark.parametrize(("alpha", "lam", "exponent"), [(0, 1, 1), (1, -1, 1), (1, 1, 0), (float("nan"), 1, 1)])
def test_non_positive_hyperparameters_are_refused(alpha, lam, exponent):
    f, o = ratios(1.0)
    with pytest.raises(ConfigError, match="must be positive"):
        dampening_factors(f, o, alpha, lam, exponent)


@pytest.mark.parametrize("size", [5, 200_000])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_the_flat_pass_is_the_same_dampening(size, exponent):
    generator = torch.Generator().manual_seed(size)
    theta, f, o = (torch.randn(size, generator=generator).abs() for _ in range(3))
    o[::7] = 0
    flat = dampen_flat(theta, f, o, 1.5, 0.4, exponent)
    named = dampen({"w": theta}, {"w": f}, {"w": o}, 1.5, 0.4, exponent)["w"]
    assert torch.equal(flat, named)
    assert not torch.equal(flat, theta)
