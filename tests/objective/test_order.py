"""The scoring order: always the same, in proportion to volumes and anatomies, and with equal chances for all slices."""

import numpy as np
import pytest

from ssdtune.objective.order import stratified_order


class Named(list):
    """A sample set of names alone."""

    def __init__(self, volumes, anatomies=None):
        super().__init__(range(len(volumes)))
        self.volumes = volumes
        self.ids = [f"{volume}:{i}" for i, volume in enumerate(volumes)]
        if anatomies:
            self.anatomies = anatomies


def test_it_is_a_permutation_that_depends_on_names_alone():
    samples = Named(["a"] * 5 + ["b"] * 7)
    order = stratified_order(samples, "retain")
    assert sorted(order) == list(range(12))
    assert (order == stratified_order(Named(samples.volumes), "retain")).all()
    assert (order != stratified_order(samples, "forget")).any()


def test_every_prefix_holds_volumes_in_proportion():
    volumes = np.repeat(["a", "b", "c", "d"], [40, 20, 20, 20])
    order = stratified_order(Named(list(volumes)))
    for count in (10, 25, 50, 80):
        for volume, share in (("a", 0.4), ("b", 0.2), ("c", 0.2), ("d", 0.2)):
            assert abs((volumes[order[:count]] == volume).sum() - share * count) <= 2


def test_the_first_volumes_are_of_all_anatomies_in_proportion():
    volumes = [f"v{i}" for i in range(30) for _ in range(4)]
    anatomies = ["brain" if i < 20 else "knee" for i in range(30) for _ in range(4)]
    order = stratified_order(Named(volumes, anatomies))
    for count in (6, 12, 24):
        knees = sum(anatomies[i] == "knee" for i in order[:count])
        assert abs(knees - count / 3) <= 1.5
    assert len({volumes[i] for i in order[:30]}) >= 29


def test_every_slice_has_the_same_chance_to_come_early():
    volumes = ["a"] * 3 + ["b"] * 9
    early = np.zeros(12)
    for seed in range(3000):
        early[stratified_order(Named(volumes), seed=seed)[:4]] += 1
    assert early / 3000 == pytest.approx(1 / 3, abs=0.05)


def test_a_plain_list_is_one_stratum():
    assert sorted(stratified_order([0, 1, 2], "x")) == [0, 1, 2]
