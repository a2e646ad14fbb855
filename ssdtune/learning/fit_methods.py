"""Fitting what a mapper knows of the methods beside SSD to the responses that a collection recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssdtune.arrays import Array
from ssdtune.learning.training import Example, Recipe, train
from ssdtune.prior.calibration import HeldOut, residual_by_level
from ssdtune.prior.experience import Experience
from ssdtune.prior.inputs import GLOBAL, global_inputs
from ssdtune.prior.method_inputs import METHOD_INPUTS, method_inputs
from ssdtune.prior.method_mapper import MethodMapper
from ssdtune.prior.points import folds
from ssdtune.prior.standard import Standard, clip_far, latent_distribution
from ssdtune.progress import Track, silent
from ssdtune.surrogate.belief import squash

RECIPE = Recipe(epochs=60, batch=256)
_CALIBRATION_NETWORKS = 2
_FEWEST = 8
_FARTHEST = 3.0  # outputs beyond are as bad as this: a training that diverged says no more


@dataclass(frozen=True, eq=False)
class Rows:
    """One task's response to one method: local (n, L), y (n, 2) unclipped (retained, remembered), the features of its
    analysis, empty where the method has none, and its floor ratio."""

    key: str
    family: str
    local: Array
    y: Array
    features: Mapping[str, float]
    floor_ratio: float


def rows_of(record: Experience, method: str) -> Rows:
    """The response as training rows; an output that was not finite is the worst."""
    response, floor_ratio = record.responses[method], record.floor_ratio
    retained = response.measures[record.q_retain] / record.baseline[record.q_retain]
    ratio = response.measures[record.q_forget] / record.baseline[record.q_forget]
    y = np.stack([retained, (ratio - floor_ratio) / (1 - floor_ratio)], axis=1)
    y[~np.isfinite(y).all(axis=1)] = [0.0, 1.0]
    return Rows(
        key=record.key,
        family=record.family,
        local=method_inputs(method, {**response.knobs, **response.notes}, record.scales),
        y=np.clip(y, -_FARTHEST, _FARTHEST),
        features=record.features if METHOD_INPUTS[method].features else {},
        floor_ratio=floor_ratio,
    )


def fit_methods(
    experiences: Sequence[Experience], *, seed: int = 0, recipe: Recipe = RECIPE, track: Track = silent
) -> dict[str, MethodMapper]:
    """A part for every method that at least eight tasks of two families recorded a response to."""
    found = {}
    for method in METHOD_INPUTS:
        rows = [rows_of(record, method) for record in experiences if method in record.responses]
        if len(rows) < _FEWEST or len({each.family for each in rows}) < 2:
            continue
        held_out = predict_rows(method, rows, seed=seed, recipe=recipe, track=track)
        part = learn_rows(method, rows, recipe, seed)
        found[method] = replace(part, residual_sd=residual_by_level(held_out))
    return found


def predict_rows(
    method: str, rows: Sequence[Rows], *, seed: int = 0, recipe: Recipe = RECIPE, track: Track = silent
) -> list[HeldOut]:
    """Every task's response as foreseen by networks that have not seen its family, in the order of ``rows``."""
    parts = parts_without(method, rows, seed=seed, recipe=recipe, track=track)
    return [foreseen(part, each) for part, each in zip(parts, rows, strict=True)]


def parts_without(
    method: str, rows: Sequence[Rows], *, seed: int = 0, recipe: Recipe = RECIPE, track: Track = silent
) -> list[MethodMapper]:
    """For every task a part of few networks that have seen no task of its family, in the order of ``rows``."""
    fold_of = folds([each.family for each in rows])
    small = replace(recipe, networks=min(recipe.networks, _CALIBRATION_NETWORKS))
    parts = {}
    for fold in track(range(max(fold_of) + 1), f"{method}, held-out families", max(fold_of) + 1):
        others = [each for each, own in zip(rows, fold_of, strict=True) if own != fold]
        parts[fold] = learn_rows(method, others, small, seed)
    return [parts[fold] for fold in fold_of]


def foreseen(part: MethodMapper, rows: Rows) -> HeldOut:
    """What a part says of one task, beside what was recorded."""
    members = np.moveaxis(part.members(rows.local, rows.features, rows.floor_ratio), 1, 2)
    return HeldOut(members, squash(rows.y), rows.local)


def learn_rows(method: str, rows: Sequence[Rows], recipe: Recipe, seed: int) -> MethodMapper:
    """A part whose residual is still to be measured."""
    names = list(GLOBAL) if METHOD_INPUTS[method].features else ["floor_ratio"]
    local = Standard.of(list(METHOD_INPUTS[method].local), np.concatenate([each.local for each in rows]))
    tasks = np.stack([global_inputs(names, each.features, each.floor_ratio) for each in rows])
    global_ = Standard.of(names, tasks)
    examples = [
        Example(local(each.local), task, np.ones(len(each.y)), each.y, each.floor_ratio)
        for each, task in zip(rows, clip_far(global_(tasks)), strict=True)
    ]
    networks, latent = train(examples, recipe, seed)
    return MethodMapper(networks, local, global_, *latent_distribution(latent), np.empty((2, 0)), len(rows))
