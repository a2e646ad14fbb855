"""Coil sensitivity maps of receive loops around the body, by the law of Biot and Savart.

Notation: B(r) field of a loop carrying unit current; its sensitivity is B_x - i B_y, as a coil receives what it would
transmit with the opposite rotation (Hoult & Richards, J. Magn. Reson. 24:71, 1976; Roemer et al., MRM 16:192, 1990).
Lengths are in units of half the longer side of the field of view.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.interpolate import RectBivariateSpline

SEGMENTS = 20
"""Straight pieces a loop is made of."""

# maps are smooth: on larger grids they are worked out on this many points a side and interpolated
COARSE = 40


def coil_maps(coils: int, size: tuple[int, int], levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sensitivity maps (slices, coils, h, w) complex64 with a root sum of squares of 1 everywhere.

    ``levels`` (slices,) are the slices' positions along the body, in half field-of-view lengths. The loops stand around
    the field of view, facing its centre; place, size and tilt of each are a little random.
    """
    h, w = size
    longest = max(size)
    y, x = (np.linspace(-n / longest, n / longest, 2 * min(n, COARSE) + 1)[1::2] for n in size)
    points = np.stack(np.broadcast_arrays(x[None, None], y[None, :, None], levels[:, None, None]), -1)
    fields = np.stack([_received(points, loop) for loop in _loops(coils, rng)], 1)
    if len(y) < h or len(x) < w:
        fields = _interpolated(fields, (y, x), size)
    found: np.ndarray = (fields / np.sqrt(np.sum(np.abs(fields) ** 2, axis=1, keepdims=True))).astype(np.complex64)
    return found


def _loops(coils: int, rng: np.random.Generator) -> np.ndarray:
    """Corner points (coils, SEGMENTS + 1, 3) of the loops, on a circle that holds the corners of the field of view."""
    start = rng.uniform(0, 2 * np.pi)
    around = start + 2 * np.pi * (np.arange(coils) + rng.uniform(-0.15, 0.15, coils)) / coils
    distance = rng.uniform(1.5, 1.65, coils)
    centre = np.stack([distance * np.cos(around), distance * np.sin(around), rng.normal(0, 0.15, coils)], -1)
    # neighbours overlap a little, as in an array; a few loops do not grow beyond what fits
    radius = np.clip(1.2 * 1.5 * np.pi / coils, 0.35, 0.9) * rng.uniform(0.9, 1.1, coils)
    turn = np.linspace(0, 2 * np.pi, SEGMENTS + 1)
    facing = around + np.pi + rng.normal(0, 0.1, coils)
    sideways = np.stack([-np.sin(facing), np.cos(facing), np.zeros(coils)], -1)
    upwards = np.array([0.0, 0.0, 1.0])
    ring = np.cos(turn)[None, :, None] * sideways[:, None] + np.sin(turn)[None, :, None] * upwards
    found: np.ndarray = centre[:, None] + radius[:, None, None] * ring
    return found


def _received(points: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """B_x - i B_y of one loop at ``points`` (..., 3), up to a constant: sum of dl x (r - r') / |r - r'|^3."""
    field = np.zeros(points.shape[:-1], np.complex128)
    for start, end in pairwise(loop):
        dx, dy, dz = end - start
        rx, ry, rz = np.moveaxis(points - (start + end) / 2, -1, 0)
        cube = (rx * rx + ry * ry + rz * rz) ** 1.5
        field += ((dy * rz - dz * ry) - 1j * (dz * rx - dx * rz)) / cube
    return field


def _interpolated(fields: np.ndarray, axes: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Bicubic interpolation of (slices, coils, y, x) from the points ``axes`` to ``size`` pixels."""
    y, x = (np.linspace(-n / max(size), n / max(size), 2 * n + 1)[1::2] for n in size)
    result = np.empty((*fields.shape[:2], *size), np.complex64)
    for place in np.ndindex(fields.shape[:2]):
        real, imag = (RectBivariateSpline(*axes, part)(y, x) for part in (fields[place].real, fields[place].imag))
        result[place] = real + 1j * imag
    return result
