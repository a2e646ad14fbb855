"""The small maths of the experiments: ratios with their intervals, trials to a peak, the patch."""

import math

import pytest
import torch

from benchmarks.attack import ratio
from benchmarks.cifar_landscape import first_near, patch


def test_a_ratio_is_the_geometric_mean_with_students_interval():
    found = ratio("r", [1.0, 2.0, 4.0])
    assert found["r"] == pytest.approx(2)
    half = 4.302653 * math.log(2) / math.sqrt(3)  # t of 2 degrees of freedom, 97.5 %
    assert found["r.hi"] == pytest.approx(2 * math.exp(half)) and found["r.lo"] == pytest.approx(2 * math.exp(-half))
    assert ratio("r", [3.0]) == {"r": pytest.approx(3)}


def test_trials_to_a_peak():
    assert first_near([0.1, 0.5, 0.79, 0.8], 0.8, 10) == 3
    assert first_near([0.1], 0.8, 10) == 11


def test_the_patch_is_three_white_pixels_a_side():
    x = torch.full((2, 3, 8, 8), -1.0)
    found = patch(x)
    assert (found == 1).sum() == 2 * 3 * 9 and (found[..., -3:, -3:] == 1).all() and (x == -1).all()
