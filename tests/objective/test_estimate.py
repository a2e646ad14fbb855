"""The estimator: unbiased, exact where it can be, and honest about its error, on synthetic scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ssdtune.objective.estimate import estimate_mean


def population(total=240, seed=0, noise=0.02, skew=0.0):
    """Qualities of the untouched model and of a dampened one, slice by slice."""
    rng = np.random.default_rng(seed)
    untouched = np.clip(0.8 + 0.08 * rng.standard_normal(total), 0, 1)
    lost = skew * rng.exponential(0.03, total)
    return untouched, np.clip(0.9 * untouched - lost + noise * rng.standard_normal(total), 0, 1)


def draws(values, controls, n, count=2000, seed=1):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        places = rng.choice(len(values), n, replace=False)
        yield estimate_mean(values[places], controls, places)


@pytest.mark.parametrize("n", [12, 40, 120])
@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_it_is_unbiased_and_its_interval_covers(n, skew):
    untouched, values = population(skew=skew)
    found = list(draws(values, untouched[None], n))
    means = np.array([estimate.mean for estimate in found])
    error = means.std() / np.sqrt(len(means))
    assert means.mean() == pytest.approx(values.mean(), abs=4 * error + 2e-4)
    covered = np.mean([abs(e.mean - values.mean()) <= stats.t.ppf(0.975, e.freedom) * e.se for e in found])
    assert 0.92 < covered < 0.98
    bounded = np.mean([-e.below(0.975) <= values.mean() - e.mean <= e.above(0.975) for e in found])
    assert covered < bounded  # wider, for skewness that few slices do not show


def test_a_known_model_narrows_it():
    untouched, values = population()
    alone = np.mean([e.se for e in draws(values, untouched[None][:0], 24, 200)])
    helped = np.mean([e.se for e in draws(values, untouched[None], 24, 200)])
    assert helped < 0.5 * alone


def test_without_controls_it_is_the_plain_mean_with_finite_population_correction():
    values = population(60)[1]
    estimate = estimate_mean(values[:20], np.empty((0, 60)), slice(0, 20))
    assert estimate.mean == pytest.approx(values[:20].mean())
    assert estimate.se == pytest.approx(np.sqrt(values[:20].var(ddof=1) / 20 * (1 - 20 / 60)), rel=0.03)


@given(st.integers(9, 40), st.floats(0.1, 2), st.floats(0.01, 1))
def test_a_linear_relation_is_found_exactly(n, slope, start):
    untouched, _ = population(50)
    estimate = estimate_mean(slope * untouched[:n] + start, untouched[None], slice(0, n))
    assert estimate.mean == pytest.approx(slope * untouched.mean() + start, abs=1e-9)
    assert estimate.se < 1e-9


def test_all_slices_have_no_error():
    untouched, values = population(30)
    estimate = estimate_mean(values, untouched[None], slice(0, 30))
    assert (estimate.mean, estimate.se) == (pytest.approx(values.mean()), 0)
    assert estimate.below(0.999) == estimate.above(0.999) == 0


@pytest.mark.parametrize("control", [np.full(40, 0.7), np.full(40, np.nan)])
def test_a_control_that_says_nothing_is_left_out(control):
    values = population(40)[1]
    alone = estimate_mean(values[:16], np.empty((0, 40)), slice(0, 16))
    assert estimate_mean(values[:16], control[None], slice(0, 16)) == alone


def test_one_slice_has_no_bound():
    assert estimate_mean(np.array([0.5]), np.empty((0, 9)), slice(0, 1)).above(0.9) == float("inf")


def test_a_run_of_right_answers_proves_little():
    estimate = estimate_mean(np.ones(8), np.ones((1, 300)), slice(0, 8))
    assert estimate.mean == 1
    assert 0.2 < estimate.below(0.999) < 0.8
    assert estimate.above(0.999) == 0


@pytest.mark.parametrize("right", [0, 3, 17, 20])
def test_right_and_wrong_are_bounded_exactly(right):
    """The bound is the first share of 60 under which as many right ones of 20, or more, are not rarer than 5 %."""
    seen = (np.arange(20) < right).astype(float)
    estimate = estimate_mean(seen, np.ones((1, 60)), slice(0, 20))
    least = round(60 * (estimate.mean - estimate.below(0.95)))
    most = round(60 * (estimate.mean + estimate.above(0.95)))
    if least > 0:
        assert stats.hypergeom.sf(right - 1, 60, least, 20) > 0.05 >= stats.hypergeom.sf(right - 1, 60, least - 1, 20)
    if most < 60:
        assert stats.hypergeom.cdf(right, 60, most, 20) > 0.05 >= stats.hypergeom.cdf(right, 60, most + 1, 20)
    assert (least == 0) == (right == 0) and (most == 60) == (right == 20)
