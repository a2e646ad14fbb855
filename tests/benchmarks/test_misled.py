"""Priors over a method's knobs that mean harm."""

import numpy as np
import pytest

from benchmarks.competition.adversarial import KINDS
from benchmarks.competition.misled import Named, decade_of, first_choice, inverted, told_of, wrong_priors
from ssdtune.knob import Knob
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen

GOAL = Goal(0.2, 0.95)
PLACES = np.stack([np.linspace(0, 1, 11), np.full(11, 0.5)], axis=1)


def outlook(best, lost=0.0):
    """Least is remembered at one share of the first knob; beyond it something is lost."""
    away = PLACES[:, 0] - best
    member = np.stack([1 - 0.02 - lost * (away > 0), np.clip(np.abs(away), 0, 1)])
    return Foreseen(PLACES, np.repeat(member[None], 2, axis=0), np.full((2, 11), 0.01), 1.0)


def named(key, family, best):
    own = outlook(best)
    return Named(key, family, np.asarray(GOAL.score(*own.members[0])), own)


@pytest.fixture
def tasks():
    bests = (0.2, 0.3, 0.7, 1.0)
    return [named(f"{n}", "a" if n < 2 else "b", best) for n, best in enumerate(bests)]


def test_what_is_told_is_of_another_family_and_the_worst_of_them_is_the_worst(tasks):
    found = wrong_priors(tasks, GOAL, 0.5)
    assert set(found) == set(KINDS) and all(len(each) == len(tasks) for each in found.values())
    for task, wrong, worst in zip(tasks, found["wrong-task"], found["worst-of-ten"], strict=True):
        strangers = [first_choice(other.foreseen, GOAL) for other in tasks if other.family != task.family]
        assert first_choice(wrong, GOAL) in strangers
        assert task.s[first_choice(worst, GOAL)] == min(task.s[number] for number in strangers)
    assert [first_choice(each, GOAL) for each in found["worst-of-ten"]] == [10, 10, 2, 2]
    for task, wrong, moved, turned in zip(tasks, found["wrong-task"], found["shifted"], found["inverted"], strict=True):
        assert any(np.allclose(moved.members, told_of(wrong, PLACES, by).members, atol=0.2) for by in (0.5, -0.5))
        assert not np.allclose(moved.members, wrong.members, atol=0.2)
        np.testing.assert_array_equal(turned.members, inverted(task.foreseen, GOAL).members)


@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_a_shifted_outlook_has_its_best_so_far_away(shift):
    moved = told_of(outlook(0.5), PLACES, shift)
    assert PLACES[first_choice(moved, GOAL), 0] == pytest.approx(0.5 + shift)


def test_a_decade_is_a_share_of_the_first_knobs_range():
    knob = Knob("lr", 0.01, 10.0)
    assert decade_of(knob) == pytest.approx(1 / 3)
    assert knob.at(0.2 + decade_of(knob)) == pytest.approx(10 * knob.at(0.2))


def test_an_inverted_outlook_names_first_what_is_worst_within_its_band():
    own = outlook(0.2, lost=0.1)  # beyond 0.2 nothing is feasible
    turned = inverted(own, GOAL)
    assert first_choice(own, GOAL) == 2 and first_choice(turned, GOAL) == 0
    np.testing.assert_array_equal(turned.members[:, 0], own.members[:, 0])
    np.testing.assert_array_equal(turned.members[:, :, 3:], own.members[:, :, 3:])
    assert inverted(outlook(0.2)._replace(members=np.zeros((2, 2, 11))), GOAL).members.max() == 0  # no band: as it was
