"""Gram matrices of gradient rows, in float64 throughout.

Notation: G (n, P) float32 rows. K = G Gᵀ is summed over stretches of columns, each turned to float64 before it is
multiplied, so products and sums are those of float64; only the lower triangle is worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ssdtune.arrays import Array
from ssdtune.fisher.rows import Rows

_TILE = 64  # rows of the triangle at a time
_CPU_ENTRIES, _GPU_ENTRIES = 1 << 19, 1 << 26  # float64 entries turned and multiplied at a time


def gram_matrix(sets: Sequence[Rows]) -> Array:
    """K of all sets' rows together, (N, N) float64; its off-diagonal blocks are the sets' inner products."""
    whole = {"": [slice(0, sets[0].parameters)]}
    return next(iter(gram_by_group(sets, whole)))[1]


def gram_by_group(sets: Sequence[Rows], groups: Mapping[str, Sequence[slice]]) -> Iterator[tuple[str, Array]]:
    """(group, K over the group's parameters), in one pass over the columns; each comes when its last one is done.

    groups : non-overlapping stretches of the flat vector, as ``Layout.groups`` gives them.
    """
    pieces = sorted((place.start, place.stop, name) for name, places in groups.items() for place in places)
    pieces = [piece for piece in pieces if piece[0] < piece[1]]
    last = {name: stop for _, stop, name in pieces}
    n = sum(len(rows) for rows in sets)
    matrices: dict[str, Tensor] = {}
    panel = _Panel(sets)
    for start, stop, name in pieces:
        there = start
        while there < stop:
            values: list[Tensor] = []  # let the panel before go first
            values, there = panel.at(there, stop)
            if name not in matrices:
                matrices[name] = torch.zeros(n, n, dtype=torch.float64, device=values[0].device)
            _add(matrices[name], values)
        if stop == last[name]:
            done = matrices.pop(name)
            yield name, (done.tril() + done.tril(-1).T).cpu().numpy()


class _Panel:
    """The columns at hand: as many as the set with the narrowest view gives."""

    def __init__(self, sets: Sequence[Rows]) -> None:
        self._sets = sets
        self._width = max(1, min(rows.width for rows in sets))
        self._place = slice(0, 0)
        self._values: list[Tensor] = []

    def at(self, start: int, stop: int) -> tuple[list[Tensor], int]:
        """Each set's columns from ``start`` on, and where they end (``stop`` at most)."""
        if not self._place.start <= start < self._place.stop:
            self._values = []
            self._place = slice(start, min(start + self._width, self._sets[0].parameters))
            self._values = [rows.columns(self._place) for rows in self._sets]
        end = min(stop, self._place.stop)
        inside = slice(start - self._place.start, end - self._place.start)
        return [part[:, inside] for part in self._values], end


def _add(matrix: Tensor, values: Sequence[Tensor]) -> None:
    """Add the lower triangle of the product of all values (n_s, w) with themselves."""
    n = len(matrix)
    width = max(256, (_CPU_ENTRIES if matrix.device.type == "cpu" else _GPU_ENTRIES) // n)
    for start in range(0, values[0].shape[1], width):
        part = torch.cat([value[:, start : start + width].double() for value in values])
        for top in range(0, n, _TILE):
            bottom = min(top + _TILE, n)
            matrix[top:bottom, :bottom].addmm_(part[top:bottom], part[:bottom].T)
