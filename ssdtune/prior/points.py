"""Recorded tasks as training rows, and which of them are held out together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ssdtune.arrays import Array
from ssdtune.prior.experience import Experience
from ssdtune.prior.inputs import gate, global_inputs, local_inputs, log_damage, names

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Points:
    """One task as training rows: local (n, L), global_ (U,), gate (n,), y (n, 2) unclipped (retained, remembered), z
    (n, 2) = (log_damage, log10 kappa)."""

    key: str
    family: str
    local: Array
    global_: Array
    gate: Array
    y: Array
    z: Array
    floor_ratio: float


def points(record: Experience, without: Collection[str] = ()) -> Points:
    """The design of a task with its inputs; ``without`` names groups of inputs to leave out."""
    local, global_ = names(without)
    terms = {name.removeprefix("design_"): v for name, v in record.tables.items() if name.startswith("design_")}
    log_kappa = np.minimum(np.log10(record.lam / record.alpha), 0)
    remembered = (record.forget_ratio - record.floor_ratio) / (1 - record.floor_ratio)
    return Points(
        key=record.key,
        family=record.family,
        local=local_inputs(local, terms, log_kappa, record.features),
        global_=global_inputs(global_, record.features, record.floor_ratio),
        gate=gate(terms),
        y=np.stack([record.retain_ratio, remembered], axis=1),
        z=np.stack([log_damage(terms, record.features), log_kappa], axis=1),
        floor_ratio=record.floor_ratio,
    )


def folds(families: Sequence[str], count: int = FOLDS) -> list[int]:
    """A fold for every task: families stay whole, folds hold about as many tasks each."""
    sizes = {family: list(families).count(family) for family in sorted(set(families))}
    filled = [0] * min(count, len(sizes))
    fold_of = {}
    for family in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fold_of[family] = int(np.argmin(filled))
        filled[fold_of[family]] += sizes[family]
    return [fold_of[family] for family in families]
