"""The mapper's trees: as scikit-learn grew them, and none where none is asked for."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from ssdtune.learning import growing
from ssdtune.learning.growing import grow
from ssdtune.learning.training import Example, Recipe
from ssdtune.prior.forest import Forest, side_by_side
from ssdtune.surrogate.belief import squash

RECIPE = Recipe(networks=2, trees=16, leaf=3)


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(6):
        local, task = rng.standard_normal((40, 3)), rng.standard_normal(2)
        y = np.stack([1 - 0.1 * local[:, 0] ** 2, 0.5 + 0.2 * local[:, 1] * task[0]], axis=1)
        found.append(Example(local, task, np.ones(40), y, 0.5))
    return found


def test_members_are_means_of_the_library_s_trees(examples, monkeypatch):
    kept = []
    own = ExtraTreesRegressor.fit
    monkeypatch.setattr(ExtraTreesRegressor, "fit", lambda self, x, y: kept.append(own(self, x, y)) or kept[0])
    forest = grow(examples, RECIPE, seed=1)
    assert len(forest) == 2 and forest.group == growing._SHARED // RECIPE.networks
    rows = side_by_side(np.random.default_rng(1).standard_normal((50, 3)), examples[2].global_)
    each = np.stack([tree.predict(rows) for tree in kept[0].estimators_])
    expected = each.reshape(2, 8, 50, 2).mean(axis=1)
    np.testing.assert_allclose(forest(rows, np.ones(50)), expected, atol=1e-6)
    np.testing.assert_allclose(forest(rows, np.full(50, 0.25)), 1 - 0.25 * (1 - expected), atol=1e-6)


def test_trees_learn_what_they_are_shown(examples):
    forest = grow(examples, RECIPE, seed=1)
    found = np.concatenate([forest(side_by_side(e.local, e.global_), e.gate).mean(axis=0) for e in examples])
    truth = np.concatenate([squash(e.y) * [1, 0.5] + [0, 0.5] for e in examples])  # forget ratio over a floor of 0.5
    for j in range(2):
        assert np.corrcoef(found[:, j], truth[:, j])[0, 1] > 0.7


def test_without_trees_there_are_no_members(examples):
    forest = grow(examples, replace(RECIPE, trees=0), seed=1)
    assert len(forest) == 0 and forest(np.zeros((4, 5)), np.ones(4)).shape == (0, 4, 2)
    assert len(Forest.none()) == 0
