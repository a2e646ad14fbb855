"""What the mapper is fed: local terms at a setting and global features of the task, one table line each.

Damages are losses, so they are taken relative to the set's mean loss, on a log scale with a floor where they vanish;
first-order terms are signed and pass through asinh.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from ssdtune.arrays import Array

INPUT_VERSION = 1

GROUPS = ("coordinates", "diagonal", "full", "first_order", "size", "eigenvalues", "globals")
"""Groups of inputs that an ablation may leave out: (rho, kappa); damages by the Fisher diagonal; damages by the whole
Fisher matrix and its leading eigenvectors; first-order terms; |delta| / |theta| and mean dampening; features of the
eigenvalues; all other features of the task."""

_LEAST = 1e-8
_FIRST_ORDER_UNIT = 0.01


class LocalInput(NamedTuple):
    """``compute(terms, log_kappa, features)``, of the shape of the terms."""

    group: str
    compute: Callable[[Mapping[str, Array], Array, Mapping[str, float]], Array]


def _log10(value: Array | float, least: float) -> Array:
    return np.asarray(np.log10(np.maximum(value, least)))


def _loss(features: Mapping[str, float], side: str) -> float:
    return max(features[f"{side}_loss"], 1e-6)


def _damage(side: str, form: str) -> LocalInput:
    group = "diagonal" if form == "diagonal" else "full"
    return LocalInput(group, lambda t, _, f: _log10(t[f"{side}_{form}"] / _loss(f, side), _LEAST))


def _difference(form: str) -> LocalInput:
    forget, retain = _damage("forget", form), _damage("retain", form)
    return LocalInput(forget.group, lambda t, k, f: forget.compute(t, k, f) - retain.compute(t, k, f))


def _first(side: str) -> LocalInput:
    return LocalInput(
        "first_order", lambda t, _, f: np.arcsinh(t[f"{side}_first"] / _loss(f, side) / _FIRST_ORDER_UNIT)
    )


LOCAL: dict[str, LocalInput] = {
    "log10_rho": LocalInput("coordinates", lambda t, _, __: _log10(t["selected_fraction"], 1e-6)),
    "log10_kappa": LocalInput("coordinates", lambda _, log_kappa, __: log_kappa),
    **{f"{s}_{form}": _damage(s, form) for form in ("diagonal", "full", "low_rank") for s in ("forget", "retain")},
    "difference_diagonal": _difference("diagonal"),
    "difference_full": _difference("full"),
    "forget_first": _first("forget"),
    "retain_first": _first("retain"),
    "relative_change": LocalInput("size", lambda t, _, __: _log10(t["relative_change"], 1e-6)),
    "mean_dampening": LocalInput("size", lambda t, _, __: _log10(t["mean_dampening"], 1e-6)),
}
"""Inputs that differ from setting to setting."""


GLOBAL: dict[str, str] = {
    "floor_ratio": "globals",
    "log10_forget_loss": "globals",
    "log10_retain_loss": "globals",
    "log10_phi": "globals",
    "known_share": "globals",
    "log10_entanglement": "globals",
    "log10_ratio_q0.5": "globals",
    "log10_ratio_q0.99": "globals",
    "tail_index": "globals",
    "depth_sensitivity": "globals",
    "forget_top_share": "eigenvalues",
    "log10_forget_effective_rank": "eigenvalues",
    "log10_retain_effective_rank": "eigenvalues",
    "forget_mean_share": "eigenvalues",
    "retain_mean_share": "eigenvalues",
    "mean_alignment": "eigenvalues",
    "subspace_overlap": "eigenvalues",
    "forget_energy_in_retain": "eigenvalues",
}
"""Inputs that are the same at every setting of a task, with their groups: the floor ratio, features by name, and where
none is called ``log10_NAME``, log10 of the feature NAME."""


def names(without: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Names of the local and of the global inputs whose group is not left out."""
    local = [name for name, each in LOCAL.items() if each.group not in without]
    return local, [name for name, group in GLOBAL.items() if group not in without]


def local_inputs(
    chosen: list[str], terms: Mapping[str, Array], log_kappa: Array, features: Mapping[str, float]
) -> Array:
    """(..., inputs) for terms and log10 kappa of one shape (...)."""
    return np.stack([LOCAL[name].compute(terms, log_kappa, features) for name in chosen], axis=-1)


def global_inputs(chosen: list[str], features: Mapping[str, float], floor_ratio: float) -> Array:
    """(inputs,)"""
    known = {**features, "floor_ratio": floor_ratio}
    return np.array(
        [known[name] if name in known else _log10(known[name.removeprefix("log10_")], 1e-4) for name in chosen], float
    )


def log_damage(terms: Mapping[str, Array], features: Mapping[str, float]) -> Array:
    """log10 of the square root of the retain set's damage by the Fisher diagonal, relative to its mean loss: a
    coordinate along which a response is smooth; of the shape of the terms."""
    return 0.5 * _log10(terms["retain_diagonal"] / _loss(features, "retain"), _LEAST)


def gate(terms: Mapping[str, Array]) -> Array:
    """In [0, 1), exactly 0 where nothing changes: there the response is (1, 1), whatever a network says."""
    change = terms["relative_change"]
    return np.asarray(change / (change + _GATE_UNIT))


_GATE_UNIT = 1e-4
