"""Growing the mapper's trees (``forest``) with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssdtune.arrays import Array
from ssdtune.learning.training import Example, Recipe
from ssdtune.prior.forest import Forest, side_by_side
from ssdtune.surrogate.belief import squash

_SHARE = 0.5  # of the inputs, which a split chooses among
_SHARED = 16  # trees of a member times networks: so that members of both kinds keep their proportion


def grow(examples: Sequence[Example], recipe: Recipe, seed: int) -> Forest:
    """A forest of what the networks learn from; outputs squashed, the forget ratio that goes with remembered."""
    if not recipe.trees:
        return Forest.none()
    from sklearn.ensemble import ExtraTreesRegressor  # a second

    x = np.concatenate([side_by_side(each.local, each.global_) for each in examples])
    y = np.concatenate([ratios(each.y, each.floor_ratio) for each in examples])
    forest = ExtraTreesRegressor(
        recipe.trees, min_samples_leaf=recipe.leaf, max_features=_SHARE, bootstrap=True, random_state=seed
    )
    trees = [estimator.tree_ for estimator in forest.fit(x, y).estimators_]
    nodes = max(tree.node_count for tree in trees)
    feature = np.full((len(trees), nodes), -1.0)
    threshold, right, value = np.zeros_like(feature), np.zeros_like(feature), np.zeros((*feature.shape, 2))
    for number, tree in enumerate(trees):
        here = slice(tree.node_count)
        feature[number, here] = np.maximum(tree.feature, -1)
        threshold[number, here], right[number, here] = tree.threshold, tree.children_right
        value[number, here] = tree.value[:, :, 0]
    return Forest(feature, threshold, right, value, group=max(1, _SHARED // max(recipe.networks, 1)))


def ratios(y: Array, floor_ratio: float) -> Array:
    """(n, 2): squashed retained, and the forget ratio that goes with squashed remembered, of y (n, 2) unclipped."""
    retained, remembered = squash(y).T
    return np.stack([retained, 1 - (1 - remembered) * (1 - floor_ratio)], axis=1)
