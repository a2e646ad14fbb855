"""The design of a recorded task: where its response is measured, most densely where it changes most.

SSD multiplies a parameter whose ratio crosses alpha by kappa = lambda / alpha at once, so along a line of constant
kappa the response falls in steps, while across lines it is smooth. The design is therefore a few lines, each with its
nodes where the response jumps farthest.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from ssdtune.arrays import Array
from ssdtune.plane.settings import KAPPA_RANGE, LINE_KAPPA, LINE_RHO, RHO_RANGE

NODES, CHECKS = 144, 8
"""Settings measured on the lines, and anywhere between, to test the interpolation."""

_FIRST = 64  # places between the nodes that every line begins with

Place = tuple[int, int]
"""A line and a place on it: indices into ``LINE_KAPPA`` and ``LINE_RHO``."""


def refine(respond: Callable[[Place], Array], nodes: int = NODES) -> list[Place]:
    """Measure ``nodes`` places, always halving the interval with the largest jump times width; returns them in order.

    respond : measures a place once; (outputs,) that count alike, such as clipped retained and remembered.
    """
    found: dict[Place, Array] = {}
    waiting: list[tuple[float, Place, int]] = []

    def consider(line: int, begin: int, end: int) -> None:
        if end - begin > 1:
            jump = np.abs(found[line, end] - found[line, begin]).max() * (end - begin)
            heapq.heappush(waiting, (-float(jump), (line, begin), end))

    for line in range(LINE_KAPPA.size):
        for begin in range(0, LINE_RHO.size, _FIRST):
            found[line, begin] = respond((line, begin))
            if begin:
                consider(line, begin - _FIRST, begin)
    while waiting and len(found) < nodes:
        _, (line, begin), end = heapq.heappop(waiting)
        middle = (begin + end) // 2
        found[line, middle] = respond((line, middle))
        consider(line, begin, middle)
        consider(line, middle, end)
    return sorted(found)


def checks(key: str) -> tuple[Array, Array]:
    """(rho, kappa), each (CHECKS,), drawn over the plane of the design by a task's key."""
    rng = np.random.default_rng(list(key.encode()))
    rho = np.exp(rng.uniform(np.log(RHO_RANGE[0]), np.log(RHO_RANGE[1]), CHECKS))
    return rho, np.exp(rng.uniform(np.log(KAPPA_RANGE[0]), np.log(KAPPA_RANGE[1]), CHECKS))
