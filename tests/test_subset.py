"""Subsets are of the size asked for, proportional over volumes, even over positions, and the same in every run."""

import numpy as np
import pytest
import torch

from ssdtune.subset import part_of, stratified
from ssdtune.task import Chosen, fingerprint


class Volumes(list):
    ids = ()


@pytest.mark.parametrize("count", [1, 7, 10, 33, 99])
def test_every_volume_has_its_share(count):
    names, sizes = [f"v{number}" for number in range(10)], [4, 8, 15, 16, 2, 10, 10, 12, 13, 10]
    taken = stratified(names, sizes, count, "key")
    assert sum(map(len, taken)) == count
    for numbers, size in zip(taken, sizes, strict=True):
        assert abs(len(numbers) - count * size / sum(sizes)) < 1 + 1e-9
        assert len(set(numbers)) == len(numbers)
        assert all(0 <= number < size for number in numbers)
        assert numbers == sorted(numbers)


def test_all_of_few_and_the_same_again():
    assert stratified(["a", "b"], [2, 3], 5, "") == [[0, 1], [0, 1, 2]]
    names = [f"v{number}" for number in range(50)]
    assert stratified(names, [9] * 50, 60, "x") == stratified(names, [9] * 50, 60, "x")
    assert stratified(names, [9] * 50, 60, "x") != stratified(names, [9] * 50, 60, "y")


def test_a_volume_keeps_its_slices_whatever_the_files_are_listed_as():
    names = [f"v{number}" for number in range(20)]
    order = np.random.default_rng(0).permutation(20)
    one = dict(zip(names, stratified(names, [5] * 20, 40, ""), strict=True))
    assert sum(map(len, one.values())) == sum(map(len, stratified([names[i] for i in order], [5] * 20, 40, "")))


def test_one_slice_of_each_of_many_volumes_covers_all_positions_alike():
    taken = stratified([f"v{number}" for number in range(1000)], [15] * 1000, 1000, "")
    counts = np.bincount([number for numbers in taken for number in numbers], minlength=15)
    assert counts.sum() == 1000
    assert counts.min() > 50


def test_a_part_is_a_sample_set():
    samples = Volumes((torch.tensor([float(i)]), torch.tensor(i)) for i in range(12))
    samples.ids = [f"{volume}.h5:{number}" for volume in "abc" for number in range(4)]
    part = part_of(samples, 6, "")
    assert isinstance(part, Chosen) and len(part) == 6
    assert part.ids == [samples.ids[int(part[index][1])] for index in range(6)]
    assert [part.volumes.count(name) for name in ("a.h5", "b.h5", "c.h5")] == [2, 2, 2]
    assert fingerprint(part) != fingerprint(part_of(samples, 5, ""))
    assert part_of(samples, None, "") is samples is part_of(samples, 12, "")
