"""How the benchmark of attacks sums up over trained models."""

import math

import pytest

from benchmarks.attack import ratio


def test_a_ratio_is_the_geometric_mean_with_students_interval():
    found = ratio("r", [1.0, 2.0, 4.0])
    assert found["r"] == pytest.approx(2)
    half = 4.302653 * math.log(2) / math.sqrt(3)  # t of 2 degrees of freedom, 97.5 %
    assert found["r.hi"] == pytest.approx(2 * math.exp(half)) and found["r.lo"] == pytest.approx(2 * math.exp(-half))
    assert ratio("r", [3.0]) == {"r": pytest.approx(3)}
