"""A method's prior over its knobs: places and values, its mode, and how it is kept."""

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.knob import Knob
from ssdtune.prior.knobs import KnobPrior, settings_at

KNOBS = (Knob("lr", 0.01, 10.0), Knob("steps", 4, 20, "linear", integer=True))


def make_prior(best=0.6, members=8, **goal):
    """Retained falls with lr beyond ``best``, remembered until it; steps do nothing."""
    places = np.stack([axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, 21), np.linspace(0, 1, 3))], axis=1)
    shifts = best + np.linspace(-0.03, 0.03, members)[:, None]
    retained = 1 / (1 + np.exp(25 * (places[:, 0] - shifts - 0.25)))
    remembered = 1 / (1 + np.exp(25 * (places[:, 0] - shifts + 0.2)))
    return KnobPrior(KNOBS, places, np.stack([retained, remembered], axis=1), np.full((2, len(places)), 0.02), **goal)


def test_a_knobs_values_and_shares_are_inverse_and_inside_the_range():
    lr = KNOBS[0]
    assert [lr.at(share) for share in (0.0, 1 / 3, 1.0)] == pytest.approx([0.01, 0.1, 10.0])
    assert all(lr.share(lr.at(share)) == pytest.approx(share) for share in (0.0, 0.2, 1.0))
    assert lr.low <= lr.at(1.0) <= lr.high
    found = [each["steps"] for each in settings_at(KNOBS, np.array([[0.5, 0.49], [0.5, 1.0]]))]
    assert found == [12, 20]
    assert all(isinstance(value, int) for value in found)


def test_the_mode_is_the_best_that_is_surely_feasible():
    prior = make_prior()
    assert 0.5 < prior.place(prior.mode)[0] < 0.8
    assert prior.with_goal(0.2, 0.999).mode["lr"] < prior.mode["lr"]


def test_it_is_kept_as_json():
    prior = make_prior(retain_weight=0.5, min_retained=0.9)
    again = KnobPrior.from_json(prior.to_json())
    assert again.knobs == prior.knobs
    assert again.goal == prior.goal
    np.testing.assert_allclose(again.members, prior.members, atol=1e-6)
    assert again.mode == pytest.approx(prior.mode, rel=1e-5)


@pytest.mark.parametrize("spoil", [{"format": "knobs 9"}, {"knobs": [{"name": "lr"}]}, {"places": {"shape": [1]}}])
def test_what_is_no_prior_is_one_clear_error(spoil):
    with pytest.raises(ConfigError, match="prior"):
        KnobPrior.from_json(make_prior().to_json() | spoil)


def test_a_weight_outside_its_range_is_refused():
    with pytest.raises(ConfigError, match="min_retained must lie"):
        make_prior(min_retained=1.5)
