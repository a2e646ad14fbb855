"""The mapper's trees: extremely randomised ones beside the networks, which begin better where these err alike.

Source: Geurts, Ernst and Wehenkel 2006, Extremely randomized trees; a bootstrap of the rows for each, as in random
forests. A member of the ensemble is the mean of a few trees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssdtune.arrays import Array

ARRAYS = ("feature", "threshold", "right", "value")


@dataclass(frozen=True, eq=False)
class Forest:
    """T trees in members of ``group``; nodes in depth-first order, so that the left child is the next one.

    feature (T, N) : which input a node compares, -1 in leaves and beyond the last node. threshold (T, N) : inputs up to
    it go left. right (T, N) : the right child. value (T, N, 2) : (retained, forget ratio) of a leaf.
    """

    feature: Array
    threshold: Array
    right: Array
    value: Array
    group: int = 1

    def __len__(self) -> int:
        return len(self.feature) // self.group

    @classmethod
    def none(cls) -> Forest:
        """Without trees."""
        empty = np.empty((0, 1))
        return cls(empty, empty, empty, np.empty((0, 1, 2)))

    def __call__(self, rows: Array, gate: Array) -> Array:
        """(members, n, 2) for rows (n, inputs) and gate (n,): where nothing changes (gate 0) both are 1."""
        if not len(self):
            return np.empty((0, len(rows), 2))
        feature, right = self.feature.astype(int), self.right.astype(int)
        tree = np.arange(len(feature))[:, None]
        at = np.zeros((len(feature), len(rows)), int)
        while ((compared := feature[tree, at]) >= 0).any():
            left = rows[np.arange(len(rows)), compared] <= self.threshold[tree, at]
            at = np.where(compared >= 0, np.where(left, at + 1, right[tree, at]), at)
        found = self.value[tree, at].reshape(len(self), self.group, len(rows), 2).mean(axis=1)
        return np.asarray(1 - gate[:, None] * (1 - found))


def side_by_side(local: Array, global_: Array) -> Array:
    """(n, L + U): what trees see of settings with local inputs (n, L) of a task with global inputs (U,)."""
    return np.concatenate([local, np.broadcast_to(global_, (len(local), global_.size))], axis=1)
