"""Which of a task's sets serve as test and training sets of the field's measures."""

from __future__ import annotations

from typing import NamedTuple

from ssdtune.objective.order import stratified_order
from ssdtune.task import Chosen, Samples, Task, sample_ids, sample_volumes

UA, BTA, KTA, RA = "UA", "BTA", "KTA", "RA"
UNSEEN, UNKNOWN = "unseen", "unknown"


def volume_names(samples: Samples) -> list[str]:
    """The volume of each sample, by its own id where it has none."""
    return [volume or own for volume, own in zip(sample_volumes(samples), sample_ids(samples), strict=True)]


def subject_names(samples: Samples) -> list[str]:
    """The subject of each sample, of whom a set may hold several volumes: the set's ``subjects``, else the volume."""
    if isinstance(samples, Chosen):
        return list(map(subject_names(samples.samples).__getitem__, samples.order))
    return list(getattr(samples, "subjects", None) or volume_names(samples))


class Served(NamedTuple):
    """A set, and in words what it is."""

    samples: Samples
    words: str


def sets_of(task: Task, most: int) -> dict[str, Served]:
    """What serves as which set of the measures (names: Xue et al., MIDL 2024).

    ``UA`` the known forget set, ``BTA`` the retain test set, ``RA`` at most ``most`` retain slices that were trained
    on, where those of ``BTA`` were not, ``KTA`` the forget test set: the unseen slices, else the unknown ones, which
    then have no set of their own.
    """
    given, found = task.evaluation, {UA: Served(task.forget, "known forget slices, trained on")}
    order = sorted(stratified_order(task.retain, "audit")[:most].tolist())
    trained = task.retain if len(order) == len(task.retain) else Chosen(task.retain, order)
    of_all = f"retain slices, trained on, of {len(task.retain)} in all"
    if "retain" in given:
        found |= {BTA: Served(given["retain"], "held-out retain slices"), RA: Served(trained, of_all)}
    else:
        found[BTA] = Served(trained, f"{of_all}; no held-out ones were given")
    if UNSEEN in given:
        found[KTA] = Served(given[UNSEEN], "forget slices that no model has seen")
    if UNKNOWN in given:
        name = UNKNOWN if KTA in found else KTA
        found[name] = Served(given[UNKNOWN], "unknown forget slices: not given to the method, but trained on")
    return {name: Served(samples, f"{_count(samples)} {words}") for name, (samples, words) in found.items()}


def _count(samples: Samples) -> str:
    volumes = len(set(volume_names(samples)))
    return f"{len(samples)}" if volumes == len(samples) else f"{len(samples)} (of {volumes} volumes)"
