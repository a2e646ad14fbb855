"""Random generators named by what they are for, so that nothing depends on the order of calls."""

from __future__ import annotations

import numpy as np

from ssdtune.files import content_hash


def named_rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names only, e.g. ``named_rng(0, "brain_0003", "coils")``."""
    return np.random.default_rng(int(content_hash([str(seed), *names]), 16))


def rank(seed: int, name: str) -> str:
    """Where ``name`` stands in the shuffled order of this seed: sort by it. Other names do not change it."""
    return content_hash([str(seed), "rank", name])
