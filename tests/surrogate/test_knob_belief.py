"""What is believed of a method over its knobs: from members alone, from trials, and from trials against members."""

import numpy as np
import pytest

from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief, Seen

GRID = np.stack([axis.ravel() for axis in np.meshgrid(*[np.linspace(0, 1, 9)] * 2)], axis=1)
GOAL = Goal(0.2, 0.95)


def respond(places, peak):
    """(2, n) outputs of a method that is best at ``peak`` and keeps the retain set within 0.4 of it."""
    away = np.sqrt(((places - peak) ** 2).sum(axis=1))
    return np.stack([1 - 0.5 * np.maximum(away - 0.4, 0), np.minimum(2 * away, 1)])


def foreseen(*peaks, sd=0.03):
    return Foreseen(GRID, np.stack([respond(GRID, peak) for peak in peaks]), np.full((2, len(GRID)), sd), 1.0)


def seen(places, peak):
    places = np.array(places, float).reshape(-1, 2)
    return Seen(places, respond(places, peak), np.zeros((2, len(places))))


def search(source, peak, trials):
    """Best s after each trial of always taking the largest expected improvement."""
    places, best = [], [GOAL.untouched]
    for _ in range(trials):
        gain = KnobBelief(source, GOAL, seen(places, peak), best[-1]).improvement(GRID)
        gain[[int(np.flatnonzero((place == GRID).all(axis=1))[0]) for place in places]] = -1
        places.append(GRID[int(gain.argmax())])
        y = respond(places[-1][None], peak)
        best.append(max(best[-1], float(GOAL.score(*y)[0]) if GOAL.feasible(y[0])[0] else 0.0))
    return best[1:]


def test_before_any_trial_members_say_where_to_look():
    gain = KnobBelief(foreseen((0.25, 0.75)), GOAL).improvement(GRID)
    assert GRID[int(gain.argmax())] == pytest.approx([0.25, 0.75])
    assert (gain >= 0).all()


def test_trials_tell_which_member_is_right():
    peaks = [(0.125, 0.125), (0.875, 0.125), (0.5, 0.875)]
    trials = seen([(0.5, 0.5), (0.125, 0.5)], peaks[2])
    gain = KnobBelief(foreseen(*peaks), GOAL, trials, 0.2).improvement(GRID)
    assert GRID[int(gain.argmax())] == pytest.approx(peaks[2])


@pytest.mark.parametrize("peaks", [(), ((0.0, 0.0), (0.125, 0.0))])
def test_without_members_or_with_wrong_ones_the_trials_find_the_best(peaks):
    source = foreseen(*peaks) if peaks else None
    assert search(source, np.array([0.75, 0.875]), 20)[-1] > 0.95


def test_right_members_find_it_at_once():
    peaks = [(x, y) for x in (0.125, 0.5, 0.875) for y in (0.125, 0.5, 0.875)]
    assert search(foreseen(*peaks), np.array([0.875, 0.5]), 4)[-1] > 0.98


def test_a_running_trial_is_not_asked_for_again():
    first = GRID[int(KnobBelief(foreseen((0.5, 0.5), sd=0.1), GOAL).improvement(GRID).argmax())]
    with_it = KnobBelief(foreseen((0.5, 0.5), sd=0.1), GOAL, pending=first[None]).improvement(GRID)
    without = KnobBelief(foreseen((0.5, 0.5), sd=0.1), GOAL).improvement(GRID)
    at = int(without.argmax())
    assert with_it[at] < without[at]


def test_between_places_a_member_is_interpolated():
    members, sd = foreseen((0.5, 0.5)).at(np.array([[0.5, 0.5], [0.53, 0.47]]))
    np.testing.assert_allclose(members[0, :, 0], respond(np.array([[0.5, 0.5]]), (0.5, 0.5))[:, 0], atol=1e-6)
    assert 0 < members[0, 1, 1] < 0.3
    np.testing.assert_allclose(sd, 0.03)
