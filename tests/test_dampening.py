"""The SSD rule against a literal transcription of the published code, and its identities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdtune.dampening import dampen, dampen_flat, dampening_factors, ratio
from ssdtune.errors import ConfigError
from ssdtune.fisher.ratios import SortedRatios


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


def nasty(width=12):
    """Two lists of float32 from 0 over subnormal to huge, with few distinct values, so that ratios tie."""
    values = st.one_of(
        st.sampled_from([0.0, 1e-45, 1.1754944e-38, 1e-20, 1 / 3, 1.0, 1.0000001, 3.0, 1e20, 3.4028235e38]),
        st.floats(0, 2.0**126, width=32),
    )
    return st.integers(1, width).flatmap(lambda n: st.tuples(*[st.lists(values, min_size=n, max_size=n)] * 2))


@settings(max_examples=300)
@given(diagonals=nasty(), data=st.data(), anything=st.floats(1e-300, 1e300), depth=st.floats(1e-3, 1e3))
def test_rho_is_the_share_that_changes_for_every_alpha(diagonals, data, anything, depth):
    """Also at a ratio itself, at its neighbours in float32 and float64, and for lambda above alpha."""
    f, o = (torch.tensor(values, dtype=torch.float32) for values in diagonals)
    sorted_ratios = SortedRatios.of(f.numpy(), o.numpy())
    places = [float(r) for r in sorted_ratios.values if 0 < r < np.inf]
    places += [np.nextafter(r, side) for r in places for side in (0, np.inf)]
    with np.errstate(over="ignore"):
        places += [float(np.nextafter(np.float32(r), np.float32(side))) for r in places for side in (0, np.inf)]
    at_a_ratio = data.draw(st.sampled_from([place for place in places if 0 < place < np.inf] or [anything]))
    for alpha in (at_a_ratio, anything):
        assert sorted_ratios.selected_fraction(alpha) == (ratio(f, o).double() > alpha).double().mean()
        for lam in (alpha, min(depth * alpha, 1e300)):
            changed = (dampening_factors(f, o, alpha, lam) < 1).double().mean()
            assert changed == sorted_ratios.selected_fraction(max(alpha, lam))


def test_a_ratio_that_rounds_is_selected_where_it_is_counted():
    """f > alpha * o and f / o > alpha part by an ulp here."""
    f, o = np.random.default_rng(0).random((2, 4000), np.float32) + np.float32(0.1)
    found = SortedRatios.of(f, o)
    for alpha in map(float, found.values[::40]):
        flat = dampen_flat(*(torch.from_numpy(vector) for vector in (np.ones_like(f), f, o)), alpha, alpha)
        assert (flat < 1).double().mean() == found.selected_fraction(alpha)


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
