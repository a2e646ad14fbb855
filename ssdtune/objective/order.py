"""The one order in which a sample set is scored: every prefix is a proportional sample of its volumes and anatomies.

Within a volume of n slices, in random order, slice j gets the key (j + u) / n with one u in (0, 1) a volume. Keys of a
slice are uniform on (0, 1), whatever its volume, so a prefix by key holds every slice with the same chance (the plain
mean over it is unbiased) and each volume in proportion (its variance between volumes is gone). The u of the volumes are
spread in the same way over anatomies. Random numbers come from the slices' names, so the order is always the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssdtune.files import content_hash
from ssdtune.task import Samples, sample_ids, sample_volumes


def stratified_order(samples: Samples, name: str = "", seed: int = 0) -> np.ndarray:
    """A permutation of the set's indices, (n,) int64; depends on the samples' names, ``name`` and ``seed`` only.

    Volumes are the set's ``volumes`` (one name a sample), else what stands before the last ``:`` of each id; anatomies
    its ``anatomies``, else one for all.
    """
    ids = sample_ids(samples)
    volumes = sample_volumes(samples)
    anatomies = list(getattr(samples, "anatomies", None) or [""] * len(ids))
    rng = np.random.default_rng(int(content_hash(["order", name, str(seed), *ids])[:15], 16))
    of_volume = dict(zip(volumes, anatomies, strict=True))
    spread = _keys(list(of_volume.values()), rng, None)
    place = dict(zip(of_volume, np.argsort(np.argsort(spread)), strict=True))
    starts = {volume: (rank + rng.random()) / len(place) for volume, rank in place.items()}
    return np.argsort(_keys(volumes, rng, starts), kind="stable")


def _keys(groups: Sequence[str], rng: np.random.Generator, starts: dict[str, float] | None) -> np.ndarray:
    """(n,) keys in (0, 1), evenly spread within each group from its start."""
    keys = np.empty(len(groups))
    labels = np.array(groups, dtype=object)
    for group in dict.fromkeys(groups):
        members = np.flatnonzero(labels == group)
        start = rng.random() if starts is None else starts[group]
        keys[rng.permutation(members)] = (np.arange(len(members)) + start) / len(members)
    return keys
