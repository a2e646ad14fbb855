"""The response surface: coordinates, interpolation, redundancy of lambda > alpha, storage."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.plane.course import Course
from ssdtune.plane.settings import Box, Settings, canonical, maximise
from ssdtune.plane.surface import ResponseSurface
from ssdtune.surrogate.generic import generic_surface


def test_lambda_above_alpha_is_the_setting_lambda_lambda(make_surface):
    surface = make_surface()
    np.testing.assert_allclose(surface.at([0.5, 2.0], [2.0, 30.0]), surface.at([2.0, 30.0], [2.0, 30.0]), rtol=1e-12)
    effective, kappa = canonical([1.0, 10.0], [10.0, 1.0])
    np.testing.assert_allclose(effective, [1, 1])
    np.testing.assert_allclose(kappa, [0, -1])


def test_nodes_are_hit_and_between_them_it_is_linear(make_surface):
    surface = make_surface(members=3)
    rows, columns = np.meshgrid(np.arange(21), np.arange(13), indexing="ij")
    alpha = 10 ** surface.log_alpha[rows.ravel()]
    lam = alpha * 10 ** surface.log_kappa[columns.ravel()]
    np.testing.assert_allclose(surface.at(alpha, lam).reshape(3, 2, 21, 13), surface.stacked, atol=1e-9)
    u = np.array([[(surface.log_rho[4] + surface.log_rho[5]) / 2, surface.log_kappa[7]]])
    middle = surface.interpolate(surface.retained, u)[:, 0]
    np.testing.assert_allclose(middle, surface.retained[:, 4:6, 7].mean(axis=1))


def test_beyond_the_map_the_ends_hold_but_coordinates_stay_apart(make_surface):
    surface = make_surface()
    alpha = np.array([1e3, 1e4, 1e-4, 1e-5])
    values = surface.at(alpha, alpha)
    np.testing.assert_allclose(values[..., 0], surface.stacked[:, :, 0, -1])
    np.testing.assert_allclose(values[..., 2], surface.stacked[:, :, -1, -1])
    assert len(np.unique(surface.coordinates(alpha, alpha)[:, 0])) == 4
    log_rho = np.linspace(-3.9, -0.1, 9)
    inside = 10 ** np.interp(log_rho, surface.log_rho, surface.log_alpha)
    np.testing.assert_allclose(surface.coordinates(inside, inside)[:, 0], log_rho)


def test_between_nodes_progress_is_that_of_the_damage(make_surface):
    plain = make_surface()
    cliff = (plain.log_alpha[4] + plain.log_alpha[5]) / 2
    log_alpha = np.linspace(plain.log_alpha[0], plain.log_alpha[-1], 2001)
    damage = np.repeat((log_alpha < cliff)[:, None], 2, axis=1)
    surface = replace(plain, course=Course(log_alpha, np.array([-3.0, 0.0]), damage))
    alpha = 10 ** (cliff + np.array([0.01, -0.01]))
    before, after = np.moveaxis(surface.at(alpha, 0.1 * alpha), -1, 0)
    nodes = 10 ** surface.log_alpha[4:6]
    ends = surface.at(nodes, 0.1 * nodes)
    way = ends[..., 1] - ends[..., 0]
    np.testing.assert_allclose(before, ends[..., 0] + 0.05 * way, atol=0.02 * np.abs(way).max())
    np.testing.assert_allclose(after, ends[..., 0] + 0.95 * way, atol=0.02 * np.abs(way).max())
    again = ResponseSurface.from_json(json.loads(json.dumps(surface.to_json())))
    np.testing.assert_allclose(again.at(alpha, alpha), surface.at(alpha, alpha), rtol=1e-12)


def test_json_is_exact(make_surface):
    surface = make_surface(trust=0.4)
    again = ResponseSurface.from_json(json.loads(json.dumps(surface.to_json())))
    for name in ("log_rho", "log_kappa", "log_alpha", "stacked", "residual_sd", "length_scales", "trust"):
        np.testing.assert_array_equal(getattr(again, name), getattr(surface, name))
    with pytest.raises(ConfigError, match="not a response surface"):
        ResponseSurface.from_json({"log_rho": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_alpha": np.zeros(21)}, "not monotone"),
        ({"retained": np.ones((2, 3, 4))}, "shape"),
        ({"remembered": np.full((8, 21, 13), np.nan)}, "not finite"),
        ({"trust": 0.0}, "trust"),
    ],
)
def test_malformed_surfaces_are_refused(make_surface, change, message):
    good = make_surface()
    names = ("log_rho", "log_kappa", "log_alpha", "retained", "remembered", "residual_sd", "length_scales")
    values = {name: getattr(good, name) for name in names} | change
    with pytest.raises(ConfigError, match=message):
        ResponseSurface(**values)


def test_every_generic_member_starts_untouched_and_falls():
    surface = generic_surface()
    assert (surface.stacked[:, :, 0, -1] > 0.95).mean() > 0.9
    assert (np.diff(surface.stacked, axis=2) <= 1e-6).all()  # along falling alpha
    assert (np.diff(surface.stacked, axis=3) >= -1e-6).all()  # along rising kappa


BOXES = [
    Box(),
    Box((10, 10), (0.03, 300)),
    Box((0.1, 300), (5, 5)),
    Box((7, 7), (7, 7)),
    Box((0.1, 1), (10, 100)),
    Box((1.0, 1.0 + 1e-12), (0.5, 0.7)),
]


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_grids_and_maxima_stay_inside_the_box(box):
    rng = np.random.default_rng(0)
    for settings in (box.grid(), box.around(box.grid().take([0, 1]), np.ones(2), rng)):
        assert len(settings)
        assert (settings.alpha >= box.alpha[0]).all() and (settings.alpha <= box.alpha[1]).all()
        assert (settings.lam >= box.lam[0]).all() and (settings.lam <= box.lam[1]).all()
    best = maximise(lambda s: -((np.log10(s.alpha) - 0.3) ** 2) - (np.log10(s.lam) + 0.2) ** 2, box, rng)
    low, high = box.logs.T
    nearest = np.clip([0.3, -0.2], low, high)
    if nearest[1] <= nearest[0]:  # otherwise that setting equals another one, which the grid holds instead
        np.testing.assert_allclose(np.log10([best.alpha[0], best.lam[0]]), nearest, atol=0.02)


def test_a_grid_holds_every_distinct_dampening_once():
    box = Box((0.1, 3.0), (0.03, 300.0))
    grid, (alpha, lam) = box.grid(), (10 ** np.linspace(*each, 40) for each in box.logs)
    full = Settings(*(axis.ravel() for axis in np.meshgrid(alpha, lam)))
    step = np.hypot(*((box.logs[:, 1] - box.logs[:, 0]) / 22))
    assert full.distance_to(grid).max() <= step
    redundant = (grid.lam > grid.alpha * (1 + 1e-9)) & (grid.alpha < box.alpha[1] * (1 - 1e-9))
    assert not redundant.any()


def test_distance_counts_equal_dampening_as_one_place():
    first, second = Settings(np.array([1.0]), np.array([5.0])), Settings(np.array([5.0]), np.array([5.0]))
    assert first.distance_to(second)[0] == 0
    with pytest.raises(ConfigError):
        Box((2.0, 1.0))
