"""Belief: what several experts say of a task together, weighed by how well each foresaw the data.

An expert is a response surface with a prior probability: the mapper's prediction, or the generic ensemble that assumes
nothing of the task. Its mean is either each ensemble member in turn, or the ensemble mean with its principal components
as basis functions. Each is tried with several variants of its stated residual. A component is one (expert, variant,
member); its weight is its prior weight times its marginal likelihood. So hyperparameters are integrated over a small
table, a wrong prior loses its say as soon as the data contradict it, and a right one gains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ssdtune.arrays import Array
from ssdtune.plane.bilinear import interpolate
from ssdtune.plane.settings import NOWHERE, Settings
from ssdtune.plane.surface import ResponseSurface
from ssdtune.surrogate.generic import generic_surface
from ssdtune.surrogate.gp import Field, GaussianProcess, Kernel, Residuals, Told, residual_covariance
from ssdtune.surrogate.improvement import Goal, expected_improvement
from ssdtune.surrogate.monotone import MonotoneBounds

Members: TypeAlias = NDArray[np.intp] | slice

_TRUSTED = 0.9  # the mapper's share before any data, times its own trust
_BASIS = 8
_SQUASH = 1.0
_DOUBT = 0.1
_KEPT_MASS, _KEPT_COMPONENTS = 0.98, 16
_UNTOUCHED_SD = 0.05
CORRELATION = 0.7
"""Of the residuals of retained and remembered at one setting: a dampening that does more than foreseen does so to
both."""


class Variant(NamedTuple):
    """One reading of an expert's residual: amplitudes times ``scale``, length scales times ``stretch``, and ``noise``,
    the sd of the roughness that no length scale explains (few samples, some of them changing sides)."""

    scale: float
    stretch: float
    noise: float
    probability: float


# A mean over slices is smooth to less than 0.001, and at the bound of min_retained that much of it decides.
_SMOOTH, _ROUGH = 0.001, 0.004
_VARIANTS = (
    Variant(0.5, 1, _SMOOTH, 0.25),
    Variant(1, 1, _SMOOTH, 0.4),
    Variant(2, 1, _SMOOTH, 0.15),
    Variant(2, 0.4, _ROUGH, 0.2),
)
_GENERIC_VARIANTS = (Variant(0.5, 1, _SMOOTH, 0.3), Variant(1, 1, _SMOOTH, 0.4), Variant(2, 1, _ROUGH, 0.3))


@dataclass(frozen=True, eq=False)
class Observations:
    """Evaluated settings: y (2, n) retained and remembered, and noise (2, n), the sd of what a trial only estimated.

    A retained of exactly 1 and a remembered of exactly 0 are taken for clipped: at least 1, at most 0.
    """

    settings: Settings = NOWHERE
    y: Array = field(default_factory=lambda: np.empty((2, 0)))
    noise: Array = field(default_factory=lambda: np.empty((2, 0)))


@dataclass(frozen=True, eq=False)
class Expert:
    """A response surface, its prior probability, and how it is read.

    basis : 0 takes the ensemble member by member; otherwise the number of principal components around its mean.
    generic : whether it holds for any task, rather than for this one.
    """

    surface: ResponseSurface
    probability: float = 1.0
    basis: int = 0
    variants: Sequence[Variant] = _VARIANTS
    generic: bool = False

    @cached_property
    def _surfaces(self) -> tuple[Array, Array]:
        """Means (M, 2, R, K) and basis (q, 2, R, K)."""
        members = squash(self.surface.stacked)
        if not self.basis:
            return members, np.empty((0, *members.shape[1:]))
        mean = members.mean(axis=0, keepdims=True)
        centred = (members - mean).reshape(len(members), -1) / np.sqrt(max(len(members) - 1, 1))
        _, singular, directions = np.linalg.svd(centred, full_matrices=False)
        count = min(self.basis, int((singular > 1e-6).sum()))
        return mean, (singular[:count, None] * directions[:count]).reshape(count, *members.shape[1:])

    def foresee(self, settings: Settings, u: Array | None = None, members: Members = slice(None)) -> Field:
        """What some members know of ``settings`` beforehand; ``u`` : their coordinates on the surface, if at hand."""
        if u is None:
            u = self.surface.coordinates(settings.alpha, settings.lam)
        assert self.surface.log_damage is not None
        means, basis = self._surfaces
        rows, columns = self.surface.cells(u)
        z = np.stack([interpolate(self.surface.log_damage, rows, columns), u[:, 1]], axis=-1)
        some = (means[members], basis, self.surface.residual_sd)
        return Field(z, *(interpolate(values, rows, columns) for values in some))

    @cached_property
    def credit(self) -> float:
        """Log-likelihood of what is known without a trial: nothing selected leaves the model untouched, (1, 1)."""
        corner = self.surface.stacked[:, :, 0, -1]
        sd = np.sqrt(corner.var(axis=0) + self.surface.residual_sd[:, 0, -1] ** 2 + _UNTOUCHED_SD**2)
        return float(-0.5 * (((corner.mean(axis=0) - 1) / sd) ** 2).sum())


def experts_of(surface: ResponseSurface | None, hedged: bool = True) -> list[Expert]:
    """The mapper's prediction in both readings beside the generic ensemble; ``hedged = False`` leaves that one out.

    None: the generic ensemble alone.
    """
    if surface is None:
        return [Expert(generic_surface(), variants=_GENERIC_VARIANTS, generic=True)]
    share = _TRUSTED * surface.trust if hedged else 1.0
    mapped = [Expert(surface, share / 2), Expert(surface, share / 2, basis=_BASIS)]
    if not hedged:
        return mapped
    return [*mapped, Expert(generic_surface(), 1 - share, variants=_GENERIC_VARIANTS, generic=True)]


@dataclass(frozen=True, eq=False)
class _Part:
    """The kept members of one (expert, variant); ``incumbent`` (members, 1) counts pending settings."""

    expert: Expert
    variant: Variant
    process: GaussianProcess  # of these members alone
    members: NDArray[np.intp]
    weight: Array
    incumbent: Array


class Belief:
    """Experts conditioned on observations.

    incumbent : s of the best feasible setting known. pending : running settings; each component takes them to come
    out as it predicts, so they raise its incumbent and shrink its variance. ``trust`` is the posterior share of the
    experts that speak of this task.
    """

    def __init__(
        self,
        experts: Sequence[Expert],
        goal: Goal,
        data: Observations | None = None,
        incumbent: float | None = None,
        pending: Settings = NOWHERE,
    ) -> None:
        data = data or Observations()
        self.goal = goal
        self._bounds = MonotoneBounds(data.settings, data.y, data.noise)
        base = goal.untouched if incumbent is None else incumbent
        fitted: list[tuple[Expert, Variant, GaussianProcess, Array]] = []
        units: dict[tuple[ResponseSurface, float], Array] = {}  # what readings of one surface share
        residuals: dict[tuple[ResponseSurface, Variant], Residuals] = {}
        for expert in experts:
            known, running = expert.foresee(data.settings), expert.foresee(pending)
            seen = _uncensored(squash(data.y), known.mean)
            for variant in expert.variants:
                kernel = Kernel(expert.surface.length_scales * variant.stretch, variant.scale, CORRELATION)
                noise = np.hypot(data.noise, variant.noise)
                key, own = (expert.surface, variant.stretch), (expert.surface, variant)
                if key not in units:
                    units[key] = residual_covariance(known, known, kernel._replace(scale=1.0))
                if own not in residuals:
                    residuals[own] = Residuals.of(variant.scale**2 * units[key], noise)
                process = GaussianProcess.fit(known, seen, noise, kernel, running, residuals[own])
                prior = np.log(expert.probability * variant.probability / len(known.mean)) + expert.credit
                fitted.append((expert, variant, process, prior + process.log_evidence))
        total = logsumexp(np.concatenate([each[3] for each in fitted]))
        weights = _with_doubt([np.exp(each[3] - total) for each in fitted], [each[:2] for each in fitted])
        self.trust = sum(
            float(weight.sum()) for (expert, *_), weight in zip(fitted, weights, strict=True) if not expert.generic
        )
        least = _cut(np.concatenate(weights))
        self._parts = []
        for (expert, variant, process, _), weight in zip(fitted, weights, strict=True):
            kept = np.flatnonzero(weight >= least)
            if kept.size:
                best, process = np.full((kept.size, 1), base), process.take(kept)
                if len(pending):
                    mean = process.predict(expert.foresee(pending, members=kept)).mean
                    expected = np.where(goal.feasible(mean[:, 0]), goal.score(mean[:, 0], mean[:, 1]), base)
                    best = np.maximum(best, expected.max(axis=1, keepdims=True))
                self._parts.append(_Part(expert, variant, process, kept, weight[kept], best))
        self._mass = sum(float(part.weight.sum()) for part in self._parts)

    def improvement(self, settings: Settings) -> Array:
        """Expected improvement of s under feasibility, (n,).

        Mostly as the order of the trials bounds it, and with the probability of a surprise as if nothing did.
        """
        experts = {part.expert for part in self._parts}
        places = {each: each.coordinates(settings.alpha, settings.lam) for each in {each.surface for each in experts}}
        members = {
            each: np.unique(np.concatenate([p.members for p in self._parts if p.expert is each])) for each in experts
        }
        foreseen = {each: each.foresee(settings, places[each.surface], members[each]) for each in experts}
        units: dict[tuple[ResponseSurface, float], Array] = {}  # covariances with the trials, as in the fit
        told: dict[tuple[ResponseSurface, Variant], Told] = {}
        low, high = self._bounds.bounds(settings)
        surprise = self._bounds.surprise
        total = np.zeros(len(settings))
        for part in self._parts:
            whole, process, key = foreseen[part.expert], part.process, (part.expert.surface, part.variant.stretch)
            own = (part.expert.surface, part.variant)
            if key not in units:
                units[key] = process.covariance(whole) / part.variant.scale**2
            if own not in told:
                told[own] = process.told(part.variant.scale**2 * units[key])
            field = whole._replace(mean=whole.mean[np.searchsorted(members[part.expert], part.members)])
            prediction = process.predict(field, told[own])
            gain = partial(expected_improvement, prediction.mean, prediction.cov, part.incumbent, self.goal)
            if len(self._bounds.settings):
                total += (1 - surprise) * (part.weight @ gain(low, high)) + surprise * (part.weight @ gain())
            else:
                total += part.weight @ gain()
        return total / self._mass


def squash(y: Array) -> Array:
    """The identity on [0, 1]; beyond it, where s no longer changes, saturating smoothly within 1.

    Keeps a forget quality far below a close floor from bending the process elsewhere.
    """
    inside = np.clip(y, 0, 1)
    return np.asarray(inside + _SQUASH * np.tanh((y - inside) / _SQUASH))


def _uncensored(y: Array, mean: Array) -> Array:
    """(M, 2, n): each member's own value where an observation is clipped and the member lies beyond the clip."""
    seen = np.broadcast_to(y, mean.shape).copy()
    seen[:, 0] = np.where(y[0] == 1, np.maximum(mean[:, 0], 1), seen[:, 0])
    seen[:, 1] = np.where(y[1] == 0, np.minimum(mean[:, 1], 0), seen[:, 1])
    return seen


def _with_doubt(weights: list[Array], sources: list[tuple[Expert, Variant]]) -> list[Array]:
    """Weights in which every expert's rough variants keep a share of _DOUBT of the expert's.

    Real responses have cliffs that a smooth residual rules out; without doubt its expected improvement falls to nothing
    and the search would stall beside the best setting.
    """
    doubted = list(weights)
    for expert in {id(source): source for source, _ in sources}.values():
        own = [index for index, (source, _) in enumerate(sources) if source is expert]
        rough = [index for index in own if sources[index][1].stretch < 1]
        total, share = (sum(float(weights[index].sum()) for index in some) for some in (own, rough))
        if 0 < share < _DOUBT * total:
            for index in own:
                up, down = _DOUBT * total / share, (1 - _DOUBT) * total / (total - share)
                doubted[index] = weights[index] * (up if index in rough else down)
    return doubted


def _cut(weights: Array) -> float:
    """The least weight worth keeping: enough components for almost all of the mass, and not too many."""
    ordered = np.sort(weights)[::-1]
    enough = int(np.searchsorted(np.cumsum(ordered), _KEPT_MASS))
    return float(ordered[min(enough, _KEPT_COMPONENTS - 1, len(ordered) - 1)])
