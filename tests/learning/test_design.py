"""The design: so many settings, each measured once, most densely where the response changes most."""

import numpy as np

from ssdtune.learning.design import CHECKS, NODES, checks, refine
from ssdtune.plane.settings import LINE_KAPPA, LINE_RHO


def measured(response, nodes=NODES):
    asked = []

    def respond(place):
        asked.append(place)
        line, node = place
        return np.array(response(LINE_RHO[node], LINE_KAPPA[line]))

    return refine(respond, nodes), asked


def test_every_place_is_measured_once_and_in_order():
    places, asked = measured(lambda rho, kappa: (1 / (1 + 50 * rho), 1 - kappa))
    assert len(places) == NODES
    assert places == sorted(asked)
    assert len(set(asked)) == NODES


def test_every_line_has_its_ends():
    places, _ = measured(lambda rho, kappa: (1.0, 1.0))
    for line in range(LINE_KAPPA.size):
        assert {(line, 0), (line, LINE_RHO.size - 1)} <= set(places)


def test_a_step_is_pinned_down_on_its_line():
    places, _ = measured(lambda rho, kappa: (float(rho < 0.0123), 1.0))
    step = int(np.searchsorted(LINE_RHO, 0.0123))
    for line in range(LINE_KAPPA.size):
        assert {(line, step - 1), (line, step)} <= set(places)


def test_smooth_lines_leave_their_nodes_to_others():
    places, _ = measured(lambda rho, kappa: (float(np.sin(20 * np.log(rho))) if kappa < 0.05 else 1.0, 1.0))
    counts = [sum(line == own for own, _ in places) for line in range(LINE_KAPPA.size)]
    assert counts[0] > 100
    assert max(counts[1:]) < 20


def test_all_places_are_the_most_that_can_be_measured():
    places, _ = measured(lambda rho, kappa: (rho, kappa), nodes=10**6)
    assert len(places) == LINE_RHO.size * LINE_KAPPA.size


def test_checks_are_drawn_by_the_task_inside_the_design():
    rho, kappa = checks("a")
    assert rho.shape == kappa.shape == (CHECKS,)
    assert ((rho >= LINE_RHO[0]) & (rho <= LINE_RHO[-1]) & (kappa >= LINE_KAPPA[0]) & (kappa <= LINE_KAPPA[-1])).all()
    np.testing.assert_array_equal(rho, checks("a")[0])
    assert (rho != checks("b")[0]).all()
