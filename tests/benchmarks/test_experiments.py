"""The small maths of the experiments: what of earlier requests comes back."""

import pytest

from benchmarks.sequential import drifts


def test_drift_is_what_came_back_since_the_own_request():
    found = drifts([[0.2, 0.8, 1.0], [0.3, 0.1, 0.9], [0.5, 0.0, 0.4]])
    assert found == pytest.approx(
        {
            "remembered_1": 0.2,
            "ahead_1": 0.9,
            "remembered_2": 0.2,
            "drift_2": 0.1,
            "ahead_2": 0.9,
            "remembered_3": 0.3,
            "drift_3": (0.3 - 0.1) / 2,
        }
    )
