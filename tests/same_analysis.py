"""Whether two Fisher analyses are the same but for rounding."""

import numpy as np
import pytest

from ssdtune.fisher.crew import SETS


def assert_same(one, other, rel=1e-6, ids=True):
    """Every figure of two analyses to ``rel`` of the largest of its kind."""
    pairs = {"cross": (one.cross, other.cross), "o": (one.denominator_diagonal, other.denominator_diagonal)}
    pairs |= {what: (getattr(one, what), getattr(other, what)) for what in ("phi", "known_share")}
    for name in SETS:
        a, b = getattr(one, name), getattr(other, name)
        assert len(a.ids) == len(b.ids) and (list(a.ids) == list(b.ids) or not ids)
        assert np.array_equal(a.kept, b.kept) and a.groups.keys() == b.groups.keys()
        for what in ("diagonal", "mean", "trace", "losses", "squared_norms", "embeddings", "gram"):
            if getattr(b, what) is not None:
                pairs[f"{name} {what}"] = getattr(a, what), getattr(b, what)
        pairs[f"{name} spectrum"] = a.spectrum.eigenvalues, b.spectrum.eigenvalues
        pairs |= {f"{name} {group}": (values, b.groups[group]) for group, values in a.groups.items()}
    mine, theirs = one.damage([1.0, 3.0, 20.0], 0.7).as_dict(), other.damage([1.0, 3.0, 20.0], 0.7).as_dict()
    pairs |= {name: (mine[name], theirs[name]) for name in mine}
    for name, value in other.features().items():
        # a slope through logarithms of eigenvalues down to the rounding of float32 gradients
        loose = 1e3 if name.endswith("decay_slope") else 1
        assert one.features()[name] == pytest.approx(value, rel=loose * rel, abs=loose * rel), name
    for name, (left, right) in pairs.items():
        bound = rel * max(np.abs(right).max(), 1e-30)
        np.testing.assert_allclose(left, right, rtol=0, atol=bound, err_msg=name)
