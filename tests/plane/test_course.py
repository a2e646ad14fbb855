"""The course of the damage: progress between two thresholds jumps where a heavy parameter is passed."""

import json

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.plane.course import Course

LOG_ALPHA = np.linspace(2, -1, 61)
CLIFF = 0.52  # log10 alpha below which a heavy parameter is selected


def make_course():
    rho = (2 - LOG_ALPHA)[:, None] / 3
    kappa = np.array([0.01, 0.3, 1.0])
    heavy = (LOG_ALPHA < CLIFF)[:, None] * (1 - kappa)
    return Course(LOG_ALPHA, np.log10(kappa), (0.05 * rho + heavy) ** 2)


def progress(log_alpha, log_kappa, start=1.0, end=0.0):
    one = np.ones(1)
    return float(make_course().between(log_alpha * one, log_kappa * one, start * one, end * one)[0])


def test_progress_runs_from_nothing_to_all():
    assert progress(1.0, -1) == 0
    assert progress(0.0, -1) == 1
    assert 0 < progress(0.7, -1) < progress(0.3, -1) < 1


def test_it_jumps_at_the_cliff():
    assert progress(CLIFF + 0.05, np.log10(0.01)) < 0.1
    assert progress(CLIFF - 0.05, np.log10(0.01)) > 0.9


def test_it_is_even_where_nothing_jumps():
    assert progress(0.5, 0.0) == pytest.approx(0.5, abs=0.02)


def test_where_no_damage_is_done_progress_is_in_alpha():
    assert progress(3.25, -1, start=4.0, end=3.0) == pytest.approx(0.75)


def test_settings_of_different_alpha_differ():
    at = np.linspace(0.99, 0.01, 50)
    same = np.ones(50)
    found = make_course().between(at, -1.5 * same, same, 0 * same)
    assert (np.diff(found) > 0).all()


def test_json_is_exact_and_damage_is_checked():
    course = make_course()
    again = Course.from_json(json.loads(json.dumps(course.to_json())))
    for name in ("log_alpha", "log_kappa", "damage"):
        np.testing.assert_array_equal(getattr(again, name), getattr(course, name))
    with pytest.raises(ConfigError, match="not a course"):
        Course.from_json({"damage": 3})
    with pytest.raises(ConfigError, match="below 0"):
        Course(course.log_alpha, course.log_kappa, course.damage - 1)
    with pytest.raises(ConfigError, match="lines"):
        Course(course.log_alpha, course.log_kappa, course.damage.T)
