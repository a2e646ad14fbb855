"""What a mapper is fed about the methods beside SSD: their knobs in units of the task, and what is predicted of them.

Notation: J_r the mean retain loss, lambda1 the largest eigenvalue of the retain Fisher information, P parameters,
ḡ_S mean gradients. A training's rate is told as it is and over the rate at which one step is predicted to cost the
whole retain loss, sqrt(2 J_r / (P lambda1)); a forget weight also times |ḡ_f| / |ḡ_r|.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ssdtune.arrays import Array

Columns = Mapping[str, Array]
"""Knobs, and what the method notes of a setting beforehand, each (n,)."""

Scales = Mapping[str, float]
"""``rate_unit``, ``gradient_ratio``, ``parameters``: see ``learning.responses``; only those that the inputs name."""

_SECOND = 1e-8
_FIRST_UNIT = 0.01


class MethodInputs(NamedTuple):
    """Local inputs of one method by name, each ``(columns, scales) -> (n,)``, and whether it has a Fisher analysis of
    the task whose features can be told too."""

    local: Mapping[str, Compute]
    features: bool


Compute = Callable[[Columns, Scales], Array]


def _log(name: str, least: float = 1e-9) -> Compute:
    return lambda columns, scales: np.log10(np.maximum(columns[name], least))


def _first(name: str) -> Compute:
    return lambda columns, scales: np.arcsinh(columns[name] / _FIRST_UNIT)


def _rate(c: Columns, s: Scales) -> Array:
    return np.asarray(np.log10(c["lr"] / np.sqrt(s["parameters"]) / s["rate_unit"]))


_TRAINING: dict[str, Compute] = {
    "log10_lr": _log("lr"),
    "log10_relative_rate": _rate,
    "log10_steps": _log("steps"),
    "log10_relative_reach": lambda c, s: _rate(c, s) + np.log10(c["steps"]),
}

METHOD_INPUTS: dict[str, MethodInputs] = {
    "ft": MethodInputs(_TRAINING, features=True),
    "ng": MethodInputs(
        {
            **_TRAINING,
            "log10_mu": _log("mu"),
            "log10_relative_weight": lambda c, s: np.log10(c["mu"] * s["gradient_ratio"]),
        },
        features=True,
    ),
    "ssd-repair": MethodInputs(
        {f"log10_{name}": _log(name) for name in ("rho", "kappa", "lr", "beta")},
        features=True,
    ),
    "spectral": MethodInputs(
        {
            **{f"log10_{name}": _log(name) for name in ("mu", "eta", "w_r")},
            **{f"{side}_first": _first(f"predicted_{side}_first") for side in ("forget", "retain")},
            **{f"{side}_second": _log(f"predicted_{side}_second", _SECOND) for side in ("forget", "retain")},
        },
        features=False,
    ),
}
"""By method. Spectral has no analysis of the kind that SSD has, only its own damage plane."""


def method_inputs(method: str, columns: Columns, scales: Scales) -> Array:
    """(n, inputs)"""
    return np.stack([compute(columns, scales) for compute in METHOD_INPUTS[method].local.values()], axis=1)
