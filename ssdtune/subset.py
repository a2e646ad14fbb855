"""A part of a sample set that stands for the whole: by volume and position in it, the same in every run.

Of V volumes with s_v slices, n of N = Σ s_v are taken. Volumes follow one another in an order drawn by their names, and
each gets n s_v / N of the slices to within one (systematic sampling of the row of all slices). Within a volume they lie
evenly, and where they begin moves by the golden ratio from volume to volume, so that a few slices of many volumes cover
all positions alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssdtune.files import content_hash
from ssdtune.task import Chosen, Samples, sample_volumes

_GOLDEN = (5**0.5 - 1) / 2


def drawn_order(names: Sequence[str], key: str) -> list[int]:
    """Indices of the names in an order that depends on the names and ``key`` alone."""
    return sorted(range(len(names)), key=lambda index: content_hash(["subset", key, names[index]]))


def stratified(names: Sequence[str], sizes: Sequence[int], count: int, key: str) -> list[list[int]]:
    """Of each volume the numbers of the slices taken, rising; ``count`` in all, or all slices where there are fewer.

    names, sizes : of the volumes. key : another one draws another subset.
    """
    total = sum(sizes)
    if count >= total:
        return [list(range(size)) for size in sizes]
    shift = int(content_hash(["shift", key, *names])[:12], 16) / 16**12
    taken: list[list[int]] = [[] for _ in names]
    begun = 0
    for place, index in enumerate(drawn_order(names, key)):
        size = sizes[index]
        share = _steps(begun + size, count, total, shift) - _steps(begun, count, total, shift)
        start = (shift + place * _GOLDEN) % 1
        taken[index] = [int((step + start) * size / share) for step in range(share)]
        begun += size
    return taken


def _steps(slices: int, count: int, total: int, shift: float) -> int:
    """How many of the evenly spaced marks lie among the first ``slices``."""
    return int(slices * count / total + shift)


def part_of(samples: Samples, count: int | None, key: str) -> Samples:
    """At most ``count`` samples of a set (None: all), spread over its volumes and their positions."""
    if count is None or count >= len(samples):
        return samples
    volumes = sample_volumes(samples)
    places: dict[str, list[int]] = {}
    for index, name in enumerate(volumes):
        places.setdefault(name, []).append(index)
    taken = stratified(list(places), [len(found) for found in places.values()], count, key)
    chosen = [found[step] for found, steps in zip(places.values(), taken, strict=True) for step in steps]
    return Chosen(samples, sorted(chosen))
