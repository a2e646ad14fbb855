"""Bilinear interpolation on a grid; beyond its edges the nearest node holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssdtune.arrays import Array

Cell = tuple[NDArray[np.intp], Array]
"""Indices of cells of an axis and the places within them, in [0, 1]; each (n,)."""

_NARROW = 1e-12


def cell(nodes: Array, x: Array) -> Cell:
    """Where x (n,) lies among rising ``nodes``, of which some may be level."""
    if nodes.size == 1:
        return np.zeros(x.shape, np.intp), np.zeros(x.shape)
    index = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, nodes.size - 2)
    width = np.maximum(nodes[index + 1] - nodes[index], _NARROW)
    return index, np.clip((x - nodes[index]) / width, 0.0, 1.0)


def interpolate(values: Array, rows: Cell, columns: Cell) -> Array:
    """(..., n) from ``values`` (..., R, K) at cells of the two axes."""
    (row, down), (column, right) = rows, columns
    height, width = values.shape[-2:]
    flat = values.reshape(*values.shape[:-2], height * width)
    corner = row * width + column
    below, beside = corner + (width if height > 1 else 0), 1 if width > 1 else 0
    upper = flat[..., corner] * (1 - right) + flat[..., corner + beside] * right
    lower = flat[..., below] * (1 - right) + flat[..., below + beside] * right
    return np.asarray(upper * (1 - down) + lower * down)
