"""Fitting the mapper to experience, and measuring it on families that it has not seen.

A fold is a set of families that are held out together. The shipped networks learn from everything; calibration comes
from networks that each leave one fold out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ssdtune.arrays import Array
from ssdtune.errors import DataError
from ssdtune.learning.growing import grow
from ssdtune.learning.training import Example, Recipe, train
from ssdtune.prior.assess import Assessment, assess
from ssdtune.prior.calibration import Calibration, HeldOut, calibrate
from ssdtune.prior.experience import Experience
from ssdtune.prior.inputs import names
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.prior.points import Points, folds, points
from ssdtune.prior.standard import Familiarity, Standard, clip_far, latent_distribution
from ssdtune.progress import Track, silent
from ssdtune.surrogate.belief import squash

_CALIBRATION_NETWORKS = 2
_RIDGE = 3.0
_FEWEST = 4


def fit(
    experiences: Sequence[Experience],
    *,
    seed: int = 0,
    without: Collection[str] = (),
    recipe: Recipe | None = None,
    calibration: Calibration | None = None,
    track: Track = silent,
) -> SpectrumMapper:
    """Fit a mapper to recorded tasks.

    without : groups of inputs (``inputs.GROUPS``) to leave out. calibration : from another fit; None measures it on
    held-out families.

    Raises DataError: fewer than four tasks, or all of one family.
    """
    recipe = recipe or Recipe()
    data = _learnable(experiences, without)
    held_out = {}
    if calibration is None:
        predicted = _held_out(data, without, recipe, seed, track)
        calibration = calibrate([task for _, task in predicted])
        held_out = assess(predicted, calibration).to_json()
    mapper = _networks(data, without, recipe, seed)
    return replace(mapper, calibration=calibration, experience={**mapper.experience, "held_out": held_out})


def hold_out(
    experiences: Sequence[Experience],
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    track: Track = silent,
) -> Assessment:
    """Hold out every family in turn and compare predictions with what was recorded. Raises as ``fit``."""
    predicted = _held_out(_learnable(experiences, ()), (), recipe or Recipe(), seed, track)
    return assess(predicted, calibrate([task for _, task in predicted]))


def _learnable(experiences: Sequence[Experience], without: Collection[str]) -> list[Points]:
    data = [points(record, without) for record in experiences]
    families = {each.family for each in data}
    if len(data) < _FEWEST or len(families) < 2:
        raise DataError(
            f"{len(data)} tasks of {len(families)} families are too few to learn from", "experience", "collect more"
        )
    return data


Predictor = Callable[[Points], Array]
"""A task's squashed (retained, remembered) by every member, (M, n, 2)."""


def predict_held_out(
    data: Sequence[Points], learn: Callable[[Sequence[Points]], Predictor], track: Track = silent
) -> list[tuple[Points, HeldOut]]:
    """Every task as foreseen by a predictor that has not seen its family; ``learn`` makes one from the others."""
    found: list[tuple[Points, HeldOut]] = []
    fold_of = folds([each.family for each in data])
    for fold in track(range(max(fold_of) + 1), "held-out families", max(fold_of) + 1):
        predictor = learn([each for each, own in zip(data, fold_of, strict=True) if own != fold])
        for each, own in zip(data, fold_of, strict=True):
            if own == fold:
                found.append((each, HeldOut(predictor(each), squash(each.y), each.z)))
    return found


def _held_out(
    data: Sequence[Points], without: Collection[str], recipe: Recipe, seed: int, track: Track
) -> list[tuple[Points, HeldOut]]:
    small = replace(recipe, networks=min(recipe.networks, _CALIBRATION_NETWORKS))
    return predict_held_out(data, partial(learn_networks, recipe=small, seed=seed, without=without), track)


def learn_networks(seen: Sequence[Points], *, recipe: Recipe, seed: int, without: Collection[str] = ()) -> Predictor:
    """A predictor from some tasks: the mapper's networks and trees."""
    return partial(squash_outputs, _networks(seen, without, recipe, seed))


def squash_outputs(mapper: SpectrumMapper, task: Points) -> Array:
    """(M, n, 2): squashed (retained, remembered) of every member at a task's rows."""
    members = mapper.outputs(task.local, mapper.standard(task.global_), task.gate)
    members[..., 1] = 1 - (1 - members[..., 1]) / (1 - task.floor_ratio)
    return squash(members)


def _networks(data: Sequence[Points], without: Collection[str], recipe: Recipe, seed: int) -> SpectrumMapper:
    """A mapper whose calibration is still to be measured."""
    local_names, global_names = names(without)
    local = Standard.of(local_names, np.concatenate([each.local for each in data]))
    global_ = Standard.of(global_names, np.stack([each.global_ for each in data]))
    known = clip_far(global_(np.stack([each.global_ for each in data])))
    examples = [
        Example(local(each.local), task, each.gate, each.y, each.floor_ratio)
        for each, task in zip(data, known, strict=True)
    ]
    networks, latent = train(examples, recipe, seed)
    forest = grow(examples, recipe, seed)
    latent_mean, latent_root = latent_distribution(latent)
    families = [each.family for each in data]
    return SpectrumMapper(
        networks=networks,
        forest=forest,
        local=local,
        global_=global_,
        latent_mean=latent_mean,
        latent_root=latent_root,
        calibration=Calibration(np.empty((2, 0)), np.ones((2, 2)), 0.0),
        familiarity=Familiarity(known, _usual_distance(known, families)),
        guess=_guess(known, [each.floor_ratio for each in data], global_names),
        experience={"tasks": len(data), "families": sorted(set(families)), "seed": seed, "without": sorted(without)},
    )


def _usual_distance(known: Array, families: Sequence[str]) -> float:
    """What nine in ten tasks keep, as distance to the nearest tasks of other families."""
    if not known.size:
        return 1.0
    found = []
    for task, family in zip(known, families, strict=True):
        others = np.array([other != family for other in families])
        found.append(Familiarity(known[others], 1.0).strangeness(task))
    return float(np.quantile(found, 0.9))


def _guess(known: Array, floor_ratios: Sequence[float], global_names: list[str]) -> Array:
    """Ridge regression of the floor ratio on the other global inputs; the mean alone where they are left out."""
    mean = float(np.mean(floor_ratios))
    if "floor_ratio" not in global_names:
        return np.array([mean])
    others = np.delete(known, global_names.index("floor_ratio"), axis=1)
    gram = others.T @ others + _RIDGE * np.eye(others.shape[1])
    return np.append(mean, np.linalg.solve(gram, others.T @ (np.array(floor_ratios) - mean)))
