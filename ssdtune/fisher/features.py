"""Features: what the Fisher information says of a task before any trial, as one flat table of finite numbers.

Notation as in ``statistics``; further C (n_forget, n_retain) the raw cross Gram, U a set's leading eigenvectors,
r = f / o in falling order, phi the forget share. Every feature is finite for every finite input, and 0 where its
formula is 0/0. docs/reference/features.md says more of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ssdtune.arrays import Array
from ssdtune.errors import DataError
from ssdtune.fisher import depth
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.statistics import (
    SetStatistics,
    decay_slope,
    effective_rank,
    log10_trace,
    mean_loss,
    mean_share,
    participation_ratio,
    top_share,
)

FEATURE_VERSION = 1
"""Raised whenever a feature changes its meaning or the table its names."""

HILL_SHARE = 0.01  # of the positive ratios, taken as their tail
LOG_BOUND = 12.0  # |log10| of ratios is cut here, so that 0 and inf are numbers


@dataclass(frozen=True, eq=False)
class FeatureInputs:
    """Everything features are made of. ``depth_profile`` : ``depth.profile`` of the forget diagonal."""

    forget: SetStatistics
    retain: SetStatistics
    cross: Array
    ratios: SortedRatios
    depth_profile: Mapping[str, float]
    phi: float
    known_share: float
    denominator: Literal["retain", "full"]


@dataclass(frozen=True)
class Feature:
    """One line of the table. ``resampled`` : made of the Grams alone, so it has a bootstrap interval."""

    compute: Callable[[FeatureInputs], float]
    formula: str
    source: str
    resampled: bool = False


def features(inputs: FeatureInputs) -> dict[str, float]:
    """Every feature of ``FEATURES`` by name, in order; all finite.

    Raises DataError: the inputs hold NaN or infinity.
    """
    for gram in (inputs.forget.gram, inputs.retain.gram, inputs.cross):
        if not np.all(np.isfinite(gram)):
            raise DataError("per-sample gradients hold NaN or infinity", "features", "look at the model and the data")
    found = {name: float(feature.compute(inputs)) for name, feature in FEATURES.items()}
    for name, value in found.items():
        if not math.isfinite(value):
            raise DataError(f"feature {name} is {value}", "features", "look for NaN in losses or embeddings")
    return found


# --- of both sets -----------------------------------------------------------------------------------------------------


def mean_alignment(x: FeatureInputs) -> float:
    """Cosine of the mean forget and the mean retain gradient, in [-1, 1]."""
    norm = math.sqrt(x.forget.mean_norm2) * math.sqrt(x.retain.mean_norm2)
    dot = float(x.forget.mean_weights @ x.cross @ x.retain.mean_weights)
    return float(np.clip(dot / norm, -1.0, 1.0)) if norm > 0 else 0.0


def subspace_overlap(x: FeatureInputs) -> float:
    """Mean squared cosine between the leading eigenvectors of both sets, in [0, 1]."""
    cosines = x.forget.basis.T @ x.cross @ x.retain.basis
    return float(np.clip(np.sum(cosines**2) / min(cosines.shape), 0.0, 1.0)) if cosines.size else 0.0


def forget_energy_in_retain(x: FeatureInputs) -> float:
    """Share of the forget trace along the retain set's leading eigenvectors, in [0, 1]."""
    if not x.forget.trace > 0:
        return 0.0
    inside = x.cross @ x.retain.basis
    return float(np.clip(np.sum(inside**2) / x.forget.n / x.forget.trace, 0.0, 1.0))


def log10_ratio(x: FeatureInputs, level: float) -> float:
    """Of all P ratios: ``level`` 0.999 is log10 of the alpha that selects rho = 0.001."""
    if not x.ratios.size:
        return 0.0
    place = min(int((1 - level) * x.ratios.size), x.ratios.size - 1)
    return _log10(float(x.ratios.values[place]))


def tail_index(x: FeatureInputs) -> float:
    """Hill's estimate over the largest finite ratios: mean log excess, 0 of fewer than two."""
    finite = x.ratios.values[x.ratios.infinite : x.ratios.positive].astype(np.float64)
    if len(finite) < 2:
        return 0.0
    k = min(max(math.ceil(HILL_SHARE * len(finite)), 10), len(finite) - 1)
    return float(np.mean(np.log(finite[:k])) - np.log(finite[k]))


def ceiling_share(x: FeatureInputs) -> float:
    """phi times the largest ratio over the full set's diagonal, in [0, 1]; 1: alpha can reach 1 / phi."""
    largest = float(x.ratios.values[0]) if x.ratios.size else 0.0
    if x.denominator == "full":
        return min(x.phi * largest, 1.0)  # above 1 by rounding alone
    # what r would be over the full set's diagonal, phi f + (1 - phi) o
    return 1.0 if math.isinf(largest) else x.phi * largest / (x.phi * largest + 1 - x.phi)


def log10_entanglement(x: FeatureInputs) -> float:
    """log10 of distances of embeddings within the sets over those between; 0 without embeddings."""
    if x.forget.embeddings is None or x.retain.embeddings is None:
        return 0.0
    forget, retain = (np.asarray(s.embeddings, np.float64) for s in (x.forget, x.retain))
    within = sum(float(np.mean(np.sum((e - e.mean(0)) ** 2, axis=1))) for e in (forget, retain))
    centre = np.concatenate([forget, retain]).mean(0)
    between = 0.5 * sum(float(np.sum((e.mean(0) - centre) ** 2)) for e in (forget, retain))
    if within <= 0 and between <= 0:
        return 0.0
    return _log10(within / between if between > 0 else math.inf)


def _depth_share(x: FeatureInputs, place: str) -> float:
    return x.depth_profile[place]


def _log10(value: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.clip(np.log10(value), -LOG_BOUND, LOG_BOUND))


# --- the table --------------------------------------------------------------------------------------------------------


def _of_set(side: str, compute: Callable[[SetStatistics], float]) -> Callable[[FeatureInputs], float]:
    return lambda x: compute(getattr(x, side))


_SPECTRAL: dict[str, tuple[Callable[[SetStatistics], float], str, str]] = {
    "top_share": (lambda x: top_share(x.eigenvalues), "λ_1 / Σ λ", "Gur-Ari, Roberts & Dyer 2018"),
    "effective_rank": (
        lambda x: effective_rank(x.eigenvalues),
        "exp(-Σ p ln p), p = λ / Σ λ",
        "Roy & Vetterli 2007",
    ),
    "participation_ratio": (participation_ratio, "(Σ λ)² / Σ λ²", "Gao et al. 2017"),
    "decay_slope": (decay_slope, "least-squares slope of ln λ_i on ln i", "Stringer et al. 2019"),
    "log10_trace": (log10_trace, "log10 Σ λ, not below -30", "this project"),
    "mean_share": (mean_share, "‖mean g‖² / Σ λ", "McCandlish et al. 2018"),
}
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
_PLACES = {
    "sensitivity": depth.SENSITIVITY,
    **dict(zip(("first", "middle", "last"), depth.THIRDS, strict=True)),
    **dict(zip(("down", "bottleneck", "up"), depth.PATHS, strict=True)),
}


FEATURES: dict[str, Feature] = {
    **{
        f"{side}_{name}": Feature(_of_set(side, compute), formula, source, resampled=True)
        for side in ("forget", "retain")
        for name, (compute, formula, source) in _SPECTRAL.items()
    },
    "mean_alignment": Feature(mean_alignment, "cos(mean g_forget, mean g_retain)", "Yu et al. 2020", True),
    "subspace_overlap": Feature(
        subspace_overlap, "‖U_fᵀ U_r‖² / min(k_f, k_r), mean cos² of principal angles", "Björck & Golub 1973", True
    ),
    "forget_energy_in_retain": Feature(
        forget_energy_in_retain, "(1/n_f) Σ ‖U_rᵀ g_i‖² / Σ λ over forget samples", "Saha, Garg & Roy 2021", True
    ),
    **{
        f"log10_ratio_q{level:g}": Feature(
            partial(log10_ratio, level=level), f"log10 of the {level:g} quantile of r", "this project"
        )
        for level in _QUANTILES
    },
    "tail_index": Feature(tail_index, "mean of ln r over the top 1 % - ln of the next r", "Hill 1975"),
    "ceiling_share": Feature(ceiling_share, "phi · max r over the full denominator, at most 1", "Foster et al. 2024"),
    "phi": Feature(lambda x: x.phi, "forget share of the training set", "Foster et al. 2024"),
    "known_share": Feature(lambda x: x.known_share, "given forget samples / all to forget", "Goel et al. 2024"),
    "forget_loss": Feature(_of_set("forget", mean_loss), "mean loss of the forget set", "this project"),
    "retain_loss": Feature(_of_set("retain", mean_loss), "mean loss of the retain set", "this project"),
    **{
        f"depth_{short}": Feature(partial(_depth_share, place=place), f"share of Σ f in the {place}", "this project")
        for short, place in _PLACES.items()
    },
    "log10_entanglement": Feature(
        log10_entanglement, "log10 of within-set over between-set spread of embeddings", "Zhao et al. 2024"
    ),
}
"""Name -> how it is computed, its formula and its source. Adding a feature is one function and one line here."""
