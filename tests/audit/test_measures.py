"""Every measure against values worked out by hand."""

import numpy as np
import pytest
import torch

from ssdtune.audit.measures import (
    oracle_gap,
    relearn_ratio,
    spread_over_volumes,
    tug_of_war,
    weight_distance,
)

OURS, ORACLE = {"forget": 0.9, "retain": 0.8, "test": 0.7}, {"forget": 0.5, "retain": 0.9, "test": 0.7}


def test_tow_is_the_product_of_what_is_not_off():
    assert tug_of_war(OURS, ORACLE) == pytest.approx(0.6 * 0.9 * 1.0)
    assert tug_of_war(ORACLE, ORACLE) == 1


def test_the_gap_is_the_mean_distance():
    assert oracle_gap(OURS, ORACLE) == pytest.approx((0.4 + 0.1 + 0) / 3)
    assert oracle_gap(ORACLE, ORACLE) == 0


def test_ain_is_one_for_an_oracle_and_undefined_where_nothing_was_relearned():
    assert relearn_ratio(7, 7) == 1
    assert relearn_ratio(0, 10) == 0
    assert relearn_ratio(None, 10) is None
    assert relearn_ratio(10, None) is None
    assert relearn_ratio(10, 0) is None


def test_the_distance_of_weights_is_over_all_parameters_and_relative():
    unit = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    moved = {"a": torch.tensor([3.0, 3.0]), "b": torch.tensor([[0.0]]), "running_mean": torch.tensor(9.0)}
    assert weight_distance(moved, unit, unit) == pytest.approx(5 / 5)
    assert weight_distance(unit, unit, unit) == 0


def test_the_spread_is_that_of_the_volumes_means():
    column = np.array([1.0, 3.0, 6.0, 8.0, 9.0])
    volumes = ["a", "b", "a", "b", "c"]  # means 3.5, 5.5 and 9
    assert spread_over_volumes(column, volumes) == pytest.approx(np.std([3.5, 5.5, 9.0], ddof=1))
    assert spread_over_volumes(column, ["a"] * 5) is None
