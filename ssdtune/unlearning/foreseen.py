"""The prior that a method offers over its knobs, from what a mapper learned of it on other tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ssdtune.errors import ModelError
from ssdtune.unlearning.method import Method, Options, PriorRequest, Setting

if TYPE_CHECKING:
    from ssdtune.fisher.result import FisherAnalysis
    from ssdtune.prior.knobs import KnobPrior


def knob_prior(
    request: PriorRequest,
    method: Method,
    options: Options,
    *,
    analysis: Callable[[], FisherAnalysis] | None = None,
    notes: Callable[[Setting], Mapping[str, float]] | None = None,
) -> KnobPrior | None:
    """What the mapper foresees over the knobs' ranges; None where it knows nothing of the method, or of these options.

    analysis : gives that of the task, where the method's inputs name its scales or features. notes : what the method
    says of a setting beforehand, where they name that.
    """
    from ssdtune.prior.calibration import sd_at
    from ssdtune.prior.knobs import KnobPrior, places_of, settings_at, spread
    from ssdtune.prior.method_inputs import method_inputs

    if _fixed(options) != _fixed(type(options)()):
        return None
    part = request.load_mapper().methods.get(method.name)
    if part is None:
        return None
    knobs = method.knobs(options)
    settings = [*first_of(method, options), *settings_at(knobs, spread(len(knobs)))]
    places = places_of(knobs, settings)
    rows = [{**setting, **(notes(setting) if notes else {})} for setting in settings]
    columns = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
    found = analysis() if analysis is not None else None
    scales, features = ({}, {}) if found is None else (analysis_scales(found, "task"), found.features())
    floor_ratio = 0.0 if request.floor_ratio is None else request.floor_ratio
    members = part.members(method_inputs(method.name, columns, scales), features, floor_ratio)
    return KnobPrior(
        knobs,
        places,
        members,
        sd_at(part.residual_sd, members.mean(axis=0)),
        retain_weight=request.retain_weight,
        min_retained=request.min_retained,
    )


def first_of(method: Method, options: Options) -> list[dict[str, float]]:
    """The published settings, inside the knobs' ranges."""
    knobs = method.knobs(options)
    return [{knob.name: knob.clip(each[knob.name]) for knob in knobs} for each in method.published(options)]


def _fixed(options: Options) -> dict[str, object]:
    """What is not searched, but for the seed; ranges are pairs."""
    values = dict(options)
    return {name: value for name, value in values.items() if name != "seed" and not isinstance(value, tuple)}


def rate_unit(analysis: FisherAnalysis, where: str) -> float:
    """The rate at which one Adam step is predicted to cost as much as the whole retain loss, at worst.

    A step of size h in each of P coordinates is at most h sqrt(P) long, so the retain Fisher's largest eigenvalue
    lambda1 bounds its predicted damage by h² P lambda1 / 2. Raises ModelError if they vanish.
    """
    largest, loss = float(analysis.retain.spectrum.eigenvalues[0]), float(analysis.retain.losses.mean())
    if not (largest > 0 and loss > 0 and math.isfinite(largest)):
        raise ModelError("the gradients of the retain loss are zero", where, "give a model that can be trained")
    return math.sqrt(2 * loss / (analysis.layout.parameters * largest))


def analysis_scales(analysis: FisherAnalysis, where: str) -> dict[str, float]:
    """What makes knobs dimensionless on a task: the rate's unit and the ratio of gradient norms, |ḡ_f| / |ḡ_r|, with
    what they come from."""
    return {
        "rate_unit": rate_unit(analysis, where),
        "gradient_ratio": float(np.linalg.norm(analysis.forget.mean) / np.linalg.norm(analysis.retain.mean)),
        "largest_eigenvalue": float(analysis.retain.spectrum.eigenvalues[0]),
        "retain_loss": float(analysis.retain.losses.mean()),
        "parameters": float(analysis.layout.parameters),
        "norm": float(np.linalg.norm(analysis.theta)),
    }
