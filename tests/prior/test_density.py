"""The prior over (alpha, lambda): a proper density, a mode inside its bounds, samples by seed, exact storage."""

import json

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.plane.settings import Box
from ssdtune.prior.density import HyperparameterPrior

GOALS = [(0.2, 0.0), (0.2, 0.95), (0.5, 0.95), (1.0, 0.0), (0.0, 0.5)]


def integral(prior, points=128):
    """Of the density, over the box, by midpoints (log10 measure; a side without width counts as one decade)."""
    low, high = prior.bounds.logs.T
    widths = np.where(high > low, high - low, 1.0)
    place = (np.arange(points) + 0.5) / points
    axes = [10 ** (a + (b - a) * (place if b > a else place[:1])) for a, b in zip(low, high, strict=True)]
    axes = [np.clip(axis, *ends) for axis, ends in zip(axes, (prior.bounds.alpha, prior.bounds.lam), strict=True)]
    values = [np.exp(prior.log_prob({"alpha": a, "lambda": b})) for a in axes[0] for b in axes[1]]
    return np.mean(values) * widths.prod()


def test_the_density_integrates_to_one_over_the_box(make_surface):
    assert integral(HyperparameterPrior(make_surface(), 0.2, 0.95)) == pytest.approx(1, abs=1e-9)
    assert integral(HyperparameterPrior(make_surface(), 0.5, 0.0, Box((1.0, 40.0), (0.2, 7.0)))) == pytest.approx(1)


@pytest.mark.parametrize(("retain_weight", "min_retained"), GOALS)
@pytest.mark.parametrize("box", [Box(), Box((2.0, 2.0), (0.1, 1.0)), Box((1.0, 3.0), (5.0, 9.0))], ids=str)
def test_mode_and_samples_lie_inside_the_bounds(make_surface, retain_weight, min_retained, box):
    prior = HyperparameterPrior(make_surface(), retain_weight, min_retained, box)
    for setting in [prior.mode, *prior.sample(20, seed=1)]:
        assert box.alpha[0] <= setting["alpha"] <= box.alpha[1]
        assert box.lam[0] <= setting["lambda"] <= box.lam[1]
        assert np.isfinite(prior.log_prob(setting))
        assert type(setting["alpha"]) is float


def test_the_mode_is_near_the_best_and_safer_the_less_is_known(make_surface):
    prior = HyperparameterPrior(make_surface(spread=0.02), 0.2, 0.95)
    truth = make_surface(members=1, spread=0.0)
    grid = prior.bounds.grid(per_axis=80)
    retained, remembered = truth.at(grid.alpha, grid.lam)[0]
    best = np.where(prior.goal.feasible(retained), prior.goal.score(retained, remembered), 0).max()
    at_mode = truth.at(prior.mode["alpha"], prior.mode["lambda"])[0]
    assert at_mode[0] >= 0.95
    assert prior.goal.score(*at_mode) > best - 0.1
    vague = HyperparameterPrior(make_surface(spread=0.3), 0.2, 0.95)
    assert truth.at(vague.mode["alpha"], vague.mode["lambda"])[0, 0] > at_mode[0]


def test_samples_are_drawn_by_seed_and_follow_the_density(make_surface):
    prior = HyperparameterPrior(make_surface(), 0.2, 0.95)
    assert prior.sample(5, seed=0) == prior.sample(5, seed=0)
    assert prior.sample(5, seed=0) != prior.sample(5, seed=1)
    drawn = [prior.log_prob(setting) for setting in prior.sample(400, seed=2)]
    even = [prior.log_prob(setting) for setting in _evenly(prior.bounds, 400)]
    assert np.mean(drawn) > np.mean(even) + 2
    grid = _evenly(prior.bounds, 6_000)
    density = np.exp([prior.log_prob(setting) for setting in grid])
    for name, limit in (("alpha", prior.mode["alpha"]), ("lambda", prior.mode["lambda"])):
        expected = density[[setting[name] < limit for setting in grid]].sum() / density.sum()
        share = np.mean([setting[name] < limit for setting in prior.sample(2000, seed=3)])
        assert share == pytest.approx(expected, abs=0.05)


def test_log_prob_off_the_box_and_of_no_setting(make_surface):
    prior = HyperparameterPrior(make_surface())
    assert prior.log_prob({"alpha": 1e4, "lambda": 1.0}) == -np.inf
    assert prior.log_prob({"alpha": 300.0, "lambda": 300.0}) > -np.inf
    for wrong in ({"alpha": 1.0}, {"alpha": -1.0, "lambda": 1.0}, {"alpha": "x", "lambda": 1.0}):
        with pytest.raises(ConfigError, match="no setting"):
            prior.log_prob(wrong)


def test_surface_shows_what_the_mode_was_chosen_by(make_surface):
    prior = HyperparameterPrior(make_surface(), 0.2, 0.95)
    shown = prior.surface(points=40)
    assert shown.score.shape == shown.feasible.shape == (40, 40)
    assert ((shown.feasible >= 0) & (shown.feasible <= 1)).all()
    assert (shown.retained <= 1).all() and (shown.score_sd >= 0).all()
    row = int(np.abs(np.log(shown.alpha / prior.mode["alpha"])).argmin())
    column = int(np.abs(np.log(shown.lam / prior.mode["lambda"])).argmin())
    hopeful = shown.feasible * np.maximum(shown.score - 0.2, 0)
    assert hopeful[row, column] > 0.8 * hopeful.max()
    mild = shown.lam[None] >= shown.alpha[:, None]
    assert (np.ptp(shown.retained[0][mild[0]]) > 0) and (shown.density > 0).all()


def test_storage_is_exact_and_other_goals_need_no_new_prediction(make_surface):
    prior = HyperparameterPrior(make_surface(trust=0.7), 0.3, 0.9, Box((0.2, 50.0), (0.05, 50.0)))
    again = HyperparameterPrior.from_json(json.loads(json.dumps(prior.to_json())))
    assert again.mode == prior.mode
    assert again.sample(4, seed=3) == prior.sample(4, seed=3)
    assert again.response.trust == 0.7
    assert again.bounds == prior.bounds
    other = prior.with_goal(0.5, 0.0)
    assert other.goal.retain_weight == 0.5 and other.mode != prior.mode
    with pytest.raises(ConfigError, match="format"):
        HyperparameterPrior.from_json({"format": 0})
    with pytest.raises(ConfigError, match="not a prior"):
        HyperparameterPrior.from_json({"format": 2})
    with pytest.raises(ConfigError, match="min_retained"):
        HyperparameterPrior(make_surface(), min_retained=1.2)


def _evenly(box, n):
    rng = np.random.default_rng(0)
    places = 10 ** (box.logs[:, :1] + np.diff(box.logs) * rng.uniform(size=(2, n)))
    return [{"alpha": a, "lambda": b} for a, b in places.T]
