"""What an ablation hides from the networks over a method's knobs: of what the spectrum says, one thing at a time.

The floor over the untouched model's quality stays: it is the score's, no feature of the analysis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ssdtune.learning.fit_methods import Rows
from ssdtune.prior.experience import Experience
from ssdtune.prior.inputs import GLOBAL
from ssdtune.prior.method_inputs import METHOD_INPUTS

Hide = Callable[[str, Experience, Rows], Rows]

IN_UNITS = ("relative", "first", "second")
"""What inputs that come from the spectrum have in their names."""


def nothing(method: str, record: Experience, rows: Rows) -> Rows:
    return rows


def _no_features(method: str, record: Experience, rows: Rows) -> Rows:
    """The features of the analysis are the same as of all other tasks."""
    return replace(rows, features=dict.fromkeys(rows.features, 0.5))


def _hiding(group: str) -> Hide:
    """The features of one group of ``GLOBAL`` are the same as of all other tasks."""

    def hide(method: str, record: Experience, rows: Rows) -> Rows:
        hidden = {name for name in rows.features if group in (GLOBAL.get(name), GLOBAL.get(f"log10_{name}"))}
        return replace(rows, features={**rows.features, **dict.fromkeys(hidden, 0.5)})

    return hide


def _no_units(method: str, record: Experience, rows: Rows) -> Rows:
    """Nothing is told in units of the task, or of what is predicted of it."""
    return _without(IN_UNITS, method, rows)


def _no_first(method: str, record: Experience, rows: Rows) -> Rows:
    return _without(("first",), method, rows)


def _no_second(method: str, record: Experience, rows: Rows) -> Rows:
    return _without(("second",), method, rows)


def _without(words: Sequence[str], method: str, rows: Rows) -> Rows:
    hidden = np.array([any(word in name for word in words) for name in METHOD_INPUTS[method].local])
    return replace(rows, local=np.where(hidden, 0.0, rows.local))


def _coordinates(method: str, record: Experience, rows: Rows) -> Rows:
    return _no_units(method, record, _no_features(method, record, rows))


def _no_spectrum(method: str, record: Experience, rows: Rows) -> Rows:
    """Neither what is predicted of the task nor the eigenvalue that mu is measured against."""
    return _no_units(method, record, _absolute(method, record, rows))


def _absolute(method: str, record: Experience, rows: Rows) -> Rows:
    """mu as a damping of the retain Fisher matrix, not over its largest eigenvalue."""
    names = list(METHOD_INPUTS[method].local)
    local = rows.local.copy()
    local[:, names.index("log10_mu")] += np.log10(record.scales["largest_eigenvalue"])
    return replace(rows, local=local)


ABLATIONS: dict[str, Hide] = {
    "no-eigenvalues": _hiding("eigenvalues"),
    "no-globals": _hiding("globals"),
    "no-features": _no_features,
    "no-first-order": _no_first,
    "no-damage": _no_second,
    "no-units": _no_units,
    "coordinates-only": _coordinates,
    "absolute-mu": _absolute,
    "no-spectrum": _no_spectrum,
}
_OF_TRAININGS = ("no-eigenvalues", "no-globals", "no-features", "no-units", "coordinates-only")
ABLATED_OF = {
    "spectral": ("no-first-order", "no-damage", "absolute-mu", "no-spectrum", "coordinates-only"),
    "ssd-repair": ("no-eigenvalues", "no-globals", "coordinates-only"),
    "ft": _OF_TRAININGS,
    "ng": _OF_TRAININGS,
}
"""Those that hide something of a method's own inputs, each something else."""
