"""KnobBelief: what is believed of a method's response over its knobs, from a mapper's members and a task's trials.

As in ``belief``, but over D knobs on [0, 1] rather than SSD's plane, and without bounds from the order of trials: each
member in turn is the mean of a Gaussian process whose residual is tried at several amplitudes, beside a process that
holds for any task; a component's weight is its prior weight times its marginal likelihood. So after a few trials the
members that fit lead, and where none fits, the trials do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ssdtune.arrays import Array
from ssdtune.surrogate.belief import squash
from ssdtune.surrogate.gp import Field, GaussianProcess, Kernel, Prediction
from ssdtune.surrogate.improvement import Goal, expected_improvement

_TRUSTED = 0.9  # the members' share before any data, times their own trust
_AMPLITUDES = ((0.3, 0.5), (1.0, 0.3), (2.0, 0.2))  # (of the stated residual, probability)
_LENGTH, _CORRELATION = 0.4, 0.5
_LEAST_SHARE = 1e-3  # of the likeliest member's: others are left out
_NOISE = 0.02  # of a training: its seed, and what no length scale explains
_ANYWHERE_MEAN, _ANYWHERE_SD = (0.8, 0.4), (0.25, 0.45)


class Foreseen(NamedTuple):
    """A prior's places (N, D), members' outputs there (M, 2, N), their residual's sd (2, N), and its trust."""

    places: Array
    members: Array
    residual_sd: Array
    trust: float

    def at(self, places: Array) -> tuple[Array, Array]:
        """(members (M, 2, c), sd (2, c)) at other places: of the nearest places by their inverse squared distance."""
        squared = ((places[:, None] - self.places) ** 2).sum(axis=2)
        near = np.argsort(squared, axis=1, kind="stable")[:, : self.places.shape[1] + 1]
        weight = 1 / (np.take_along_axis(squared, near, axis=1) + 1e-12)
        weight /= weight.sum(axis=1, keepdims=True)
        members = np.einsum("mjck,ck->mjc", self.members[:, :, near], weight)
        return members, np.einsum("jck,ck->jc", self.residual_sd[:, near], weight)


class Seen(NamedTuple):
    """Trials: places (n, D), unclipped outputs y (2, n), and noise (2, n), the sd of what a trial only estimated."""

    places: Array
    y: Array
    noise: Array


class _Component(NamedTuple):
    process: GaussianProcess
    weight: Array  # (M,), logs, before they are normalised
    source: Foreseen | None
    scale: float

    def predict(self, places: Array, members: NDArray[np.intp]) -> Prediction:
        """Of some members, at places (c, D)."""
        field = _field(self.source, self.scale, places)
        return self.process.take(members).predict(field._replace(mean=field.mean[members]))


class KnobBelief:
    """Members conditioned on trials.

    foreseen : None assumes nothing of the task. incumbent : s of the best feasible trial, or of the untouched model.
    pending : places (p, D) of running trials; each component takes them to come out as it predicts, so they raise its
    incumbent and shrink its variance.
    """

    def __init__(
        self,
        foreseen: Foreseen | None,
        goal: Goal,
        seen: Seen | None = None,
        incumbent: float | None = None,
        pending: Array | None = None,
    ) -> None:
        self._goal, self._pending = goal, pending
        self._incumbent = goal.untouched if incumbent is None else incumbent
        share = _TRUSTED * foreseen.trust if foreseen is not None else 0.0
        tried: list[tuple[Foreseen | None, float, float]] = [(None, 1.0, 1 - share)]
        tried += [(foreseen, scale, share * own) for scale, own in _AMPLITUDES if foreseen is not None]
        if seen is None:
            dimensions = foreseen.places.shape[1] if foreseen is not None else 1
            seen = Seen(np.empty((0, dimensions)), np.empty((2, 0)), np.empty((2, 0)))
        self._components = [_condition(*each, seen, pending) for each in tried]
        self._total = float(logsumexp(np.concatenate([each.weight for each in self._components])))

    def improvement(self, places: Array) -> Array:
        """Expected improvement of s under feasibility at places (c, D), (c,)."""
        total = np.zeros(len(places))
        for each in self._components:
            share = np.exp(each.weight - self._total)
            kept = np.flatnonzero(share > _LEAST_SHARE * share.max())
            best = np.full((kept.size, 1), self._incumbent)
            if self._pending is not None and len(self._pending):
                mean = each.predict(self._pending, kept).mean
                expected = np.where(self._goal.feasible(mean[:, 0]), self._goal.score(mean[:, 0], mean[:, 1]), -np.inf)
                best = np.maximum(best, expected.max(axis=1, keepdims=True))
            found = each.predict(places, kept)
            total += share[kept] @ expected_improvement(found.mean, found.cov, best, self._goal)
        return total


def _condition(
    source: Foreseen | None, scale: float, probability: float, seen: Seen, pending: Array | None
) -> _Component:
    kernel = Kernel(np.full((2, seen.places.shape[1]), _LENGTH), 1.0, _CORRELATION)
    known = _field(source, scale, seen.places)
    running = _field(source, scale, pending) if pending is not None and len(pending) else None
    process = GaussianProcess.fit(known, squash(seen.y), np.hypot(seen.noise, _NOISE), kernel, running)
    return _Component(process, process.log_evidence + np.log(probability / len(known.mean)), source, scale)


def _field(source: Foreseen | None, scale: float, places: Array) -> Field:
    """What is known beforehand at places (c, D); the amplitude is in the field, as the kernel's scale is 1."""
    count = len(places)
    if source is None:
        mean = np.tile(np.reshape(_ANYWHERE_MEAN, (1, 2, 1)), (1, 1, count))
        sd: Sequence[float] | Array = np.tile(np.reshape(_ANYWHERE_SD, (2, 1)), (1, count))
    else:
        mean, sd = source.at(places)
    return Field(places, mean, np.empty((0, 2, count)), scale * np.asarray(sd, float))
