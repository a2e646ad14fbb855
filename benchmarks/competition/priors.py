"""What the mapper says of tasks that it has not seen: held out by family, by corruption kind and by site; with groups
of inputs left out; and deliberately wrong.

A variant's predictions for a fold come from networks that have seen none of the fold's tasks, with a calibration that
was measured on the other folds alone (each predicted by its own networks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr

from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import in_processes, progress, start_process
from ssdtune.learning.fit import fit, squash_outputs
from ssdtune.learning.training import Recipe
from ssdtune.plane.settings import GRID_KAPPA, GRID_RHO
from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.calibration import Calibration, HeldOut, calibrate, log_likelihood
from ssdtune.prior.experience import Experience
from ssdtune.prior.inputs import GROUPS
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.prior.points import folds, points
from ssdtune.prior.standard import Familiarity
from ssdtune.prior.view import TaskView
from ssdtune.surrogate.belief import squash

Json = Mapping[str, Any]

_UNCALIBRATED = Calibration(np.full((2, 10), 0.1), np.ones((2, 2)), 0.0)
_LEAST_SD = 1e-3
FOLDS = 5


@dataclass(frozen=True)
class Variant:
    """How a mapper is held out and fed. ``fold_of(replays)`` gives every task its fold."""

    fold_of: Callable[[Sequence[Replay]], list[int]]
    networks: int | None = None
    without: tuple[str, ...] = ()


def _by(name: Callable[[Replay], str]) -> Callable[[Sequence[Replay]], list[int]]:
    def fold_of(replays: Sequence[Replay]) -> list[int]:
        names = [name(replay) for replay in replays]
        return [sorted(set(names)).index(each) for each in names]

    return fold_of


def _families(replays: Sequence[Replay]) -> list[int]:
    return folds([replay.family for replay in replays], FOLDS)


def _sites(replays: Sequence[Replay]) -> list[int]:
    """Tasks of one site share retain data and oracle; a classification task is a site of its own."""
    return folds(
        [replay.key.rsplit("-", 1)[0] if replay.key.count("-") > 1 else replay.key for replay in replays], FOLDS
    )


def _only(*kept: str) -> tuple[str, ...]:
    return tuple(group for group in GROUPS if group not in kept)


FAMILY_OUT = "spectrum"
HELD_OUT: dict[str, Variant] = {
    FAMILY_OUT: Variant(_by(lambda replay: replay.family), networks=2),
    "kind-out": Variant(_by(lambda replay: replay.kind), networks=1),
    "site-out": Variant(_sites, networks=1),
}
"""The mapper, with fewer networks than it ships with, on tasks of families, of kinds, of sites that it has not seen."""

QUICK = Variant(_families, networks=1)

ABLATIONS: dict[str, Variant] = {
    name: Variant(_families, networks=1, without=without)
    for name, without in {
        "all-inputs": (),
        "no-eigenvalues": ("eigenvalues",),
        "no-damage": ("diagonal", "full"),
        "no-diagonal": ("diagonal",),
        "no-full": ("full",),
        "no-first-order": ("first_order",),
        "no-globals": ("globals",),
        "diagonal-only": ("full", "first_order", "eigenvalues"),
        "coordinates-only": _only("coordinates"),
    }.items()
}
"""Mappers of one network, five folds of whole families; ``all-inputs`` is what the others compare with."""

WHOLE, AVERAGE = "all-inputs", "average"
FITS = 3
"""Of every ablation, from one seed each."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """One held-out task: the response as JSON and, for calibration, the members at its design with their sd."""

    response: Json
    held_out: HeldOut
    calibration: Calibration


def predict_all(
    variants: Mapping[str, Variant], replays: Sequence[Replay], seed: int, workers: int
) -> dict[str, dict[str, Predicted]]:
    """``{variant: {task: Predicted}}``, every task by a mapper that has not seen its fold."""
    fold_of = {name: variant.fold_of(replays) for name, variant in variants.items()}
    folds_ = [(name, fold) for name in variants for fold in sorted(set(fold_of[name]))]
    progress(f"mappers: {len(folds_)} folds of {', '.join(variants)}")
    training = (_training(variants[name], fold, fold_of[name], replays, seed) for name, fold in folds_)
    mappers = dict(zip(folds_, in_processes(_fit, training, workers, start_process, chunk=1), strict=True))
    finish = []
    for name, variant in variants.items():
        rows = [points(replay.experience, variant.without) for replay in replays]
        found = [
            HeldOut(squash_outputs(mappers[name, fold], own), squash(own.y), own.z)
            for fold, own in zip(fold_of[name], rows, strict=True)
        ]
        for fold in sorted(set(fold_of[name])):
            others = [each for each, own in zip(found, fold_of[name], strict=True) if own != fold]
            own_tasks = [(r, each) for r, each, own in zip(replays, found, fold_of[name], strict=True) if own == fold]
            finish.append((mappers[name, fold], others, own_tasks))
    predicted: dict[str, dict[str, Predicted]] = {name: {} for name in variants}
    parts = in_processes(_respond, finish, workers, start_process, chunk=1)
    for (name, _), part in zip(folds_, parts, strict=True):
        predicted[name] |= part
    return predicted


def average_priors(predicted: Mapping[str, Predicted], replays: Sequence[Replay]) -> dict[str, Json]:
    """Priors of nothing but past responses: the mean over tasks of other families at the same (rho, kappa), and their
    spread as the residual. The thresholds are each task's own, as everywhere."""
    rho, kappa = (axis.ravel() for axis in np.meshgrid(GRID_RHO, GRID_KAPPA, indexing="ij"))
    responses = {}
    for replay in replays:
        alpha = np.array([replay.alpha_at(each) for each in rho])
        responses[replay.key] = squash(replay.outputs(alpha, alpha * kappa)).reshape(2, GRID_RHO.size, GRID_KAPPA.size)
    found: dict[str, Json] = {}
    for replay in replays:
        others = np.stack([responses[other.key] for other in replays if other.family != replay.family])
        surface = ResponseSurface.from_json(predicted[replay.key].response)
        rows = np.abs(np.log10(GRID_RHO) - surface.log_rho[1:, None]).argmin(axis=1)  # the first is that of nothing
        mean = np.insert(others.mean(axis=0)[:, rows], 0, 1.0, axis=1)
        sd = np.insert(np.maximum(others.std(axis=0)[:, rows], _LEAST_SD), 0, 0.0, axis=1)
        found[replay.key] = replace(surface, retained=mean[:1], remembered=mean[1:], residual_sd=sd).to_json()
    return found


def _training(
    variant: Variant, fold: int, fold_of: Sequence[int], replays: Sequence[Replay], seed: int
) -> tuple[Sequence[Experience], tuple[str, ...], Recipe, int]:
    recipe = Recipe() if variant.networks is None else replace(Recipe(), networks=variant.networks)
    train = [replay.experience for replay, own in zip(replays, fold_of, strict=True) if own != fold]
    return train, variant.without, recipe, seed


def _fit(work: tuple[Sequence[Experience], tuple[str, ...], Recipe, int]) -> SpectrumMapper:
    train, without, recipe, seed = work
    return fit(train, seed=seed, without=without, recipe=recipe, calibration=_UNCALIBRATED)


def _respond(work: tuple[SpectrumMapper, list[HeldOut], list[tuple[Replay, HeldOut]]]) -> dict[str, Predicted]:
    mapper, others, own_tasks = work
    calibration = calibrate(others)
    mapper = replace(mapper, calibration=calibration)
    if not mapper.familiarity.known.shape[1]:
        mapper = replace(mapper, familiarity=_AlwaysUsual(mapper.familiarity.known, 1.0))
    return {
        replay.key: Predicted(mapper.respond(TaskView.of_experience(replay.experience)).to_json(), each, calibration)
        for replay, each in own_tasks
    }


class _AlwaysUsual(Familiarity):
    """Without global inputs nothing tells a strange task from a usual one."""

    def strangeness(self, task: np.ndarray) -> float:
        return 1.0


def calibration_metrics(predicted: Mapping[str, Predicted]) -> dict[str, float]:
    """Held-out error and coverage of the central intervals, tasks counting alike; held-out log-likelihood."""
    metrics: dict[str, float] = {}
    for j, output in enumerate(("retained", "remembered")):
        errors, ranks = [], []
        for each in predicted.values():
            members, y = each.held_out.members[:, :, j], each.held_out.y[:, j]
            sd = each.calibration.sd_at(np.moveaxis(each.held_out.members, -1, 0))[j]
            errors.append(np.sqrt(np.mean((members.mean(axis=0) - y) ** 2)))
            ranks.append(ndtr((y - members) / sd).mean(axis=0))
        metrics[f"calibration.{output}.rmse"] = float(np.mean(errors))
        for level in (50, 80, 95):
            inside = [np.mean(np.abs(rank - 0.5) <= level / 200) for rank in ranks]
            metrics[f"calibration.{output}.coverage_{level}"] = float(np.mean(inside))
    likelihood = [log_likelihood(each.held_out, each.calibration) for each in predicted.values()]
    metrics["calibration.log_likelihood"] = float(np.mean(likelihood))
    return metrics
