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
from scipy.spatial import KDTree
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
        distance, near = KDTree(self.places).query(places, k=self.places.shape[1] + 1)
        weight = 1 / (distance**2 + 1e-12)
        weight /= weight.sum(axis=1, keepdims=True)
        members = np.einsum("mjck,ck->mjc", self.members[:, :, near], weight)
        return members, np.einsum("jck,ck->jc", self.residual_sd[:, near], weight)


class Seen(NamedTuple):
    """Trials: places (n, D), unclipped outputs y (2, n), and noise (2, n), the sd of what a trial only estimated."""

    places: Array
    y: Array
    noise: Array


class _Outlook(NamedTuple):
    """What is known beforehand at places (c, D), the same for all amplitudes: mean (M, 2, c) and sd (2, c)."""

    places: Array
    mean: Array
    sd: Array

    @classmethod
    def of(cls, foreseen: Foreseen | None, places: Array) -> _Outlook:
        """That of a prior; None: of what holds for any task."""
        if foreseen is not None:
            return cls(places, *foreseen.at(places))
        mean, sd = (np.repeat(np.array(pair)[:, None], len(places), axis=1) for pair in (_ANYWHERE_MEAN, _ANYWHERE_SD))
        return cls(places, mean[None], sd)

    def field(self, scale: float, members: NDArray[np.intp] | slice = slice(None)) -> Field:
        """With the residual's amplitude times ``scale``, as the kernel's own scale is 1."""
        return Field(self.places, self.mean[members], np.empty((0, 2, len(self.places))), scale * self.sd)


class _Component(NamedTuple):
    scale: float  # of the stated residual
    process: GaussianProcess
    weight: Array  # (M,), logs, before they are normalised

    def predict(self, outlook: _Outlook, members: NDArray[np.intp]) -> Prediction:
        """Of some members."""
        return self.process.take(members).predict(outlook.field(self.scale, members))


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
        self._goal = goal
        self._incumbent = goal.untouched if incumbent is None else incumbent
        self._pending = pending if pending is not None and len(pending) else None
        if seen is None:
            dimensions = foreseen.places.shape[1] if foreseen is not None else 1
            seen = Seen(np.empty((0, dimensions)), np.empty((2, 0)), np.empty((2, 0)))
        share = _TRUSTED * foreseen.trust if foreseen is not None else 0.0
        anywhere = self._condition(None, [(1.0, 1 - share)], seen)
        self._sources: list[tuple[Foreseen | None, list[_Component]]] = [(None, anywhere)]
        if foreseen is not None:
            amplitudes = [(scale, share * own) for scale, own in _AMPLITUDES]
            self._sources.append((foreseen, self._condition(foreseen, amplitudes, seen)))
        self._total = float(logsumexp(np.concatenate([each.weight for _, own in self._sources for each in own])))

    def _condition(
        self, source: Foreseen | None, amplitudes: Sequence[tuple[float, float]], seen: Seen
    ) -> list[_Component]:
        """A component for each amplitude and its probability."""
        kernel = Kernel(np.full((2, seen.places.shape[1]), _LENGTH), 1.0, _CORRELATION)
        known, y, noise = _Outlook.of(source, seen.places), squash(seen.y), np.hypot(seen.noise, _NOISE)
        running = None if self._pending is None else _Outlook.of(source, self._pending)
        found = []
        for scale, probability in amplitudes:
            pending = None if running is None else running.field(scale)
            process = GaussianProcess.fit(known.field(scale), y, noise, kernel, pending)
            weight = process.log_evidence + np.log(probability / len(known.mean))
            found.append(_Component(scale, process, weight))
        return found

    def improvement(self, places: Array) -> Array:
        """Expected improvement of s under feasibility at places (c, D), (c,)."""
        total = np.zeros(len(places))
        for source, components in self._sources:
            outlook = _Outlook.of(source, places)
            running = None if self._pending is None else _Outlook.of(source, self._pending)
            for each in components:
                share = np.exp(each.weight - self._total)
                kept = np.flatnonzero(share > _LEAST_SHARE * share.max())
                best = np.full((kept.size, 1), self._incumbent)
                if running is not None:
                    mean = each.predict(running, kept).mean
                    score = self._goal.score(mean[:, 0], mean[:, 1])
                    expected = np.where(self._goal.feasible(mean[:, 0]), score, -np.inf)
                    best = np.maximum(best, expected.max(axis=1, keepdims=True))
                found = each.predict(outlook, kept)
                total += share[kept] @ expected_improvement(found.mean, found.cov, best, self._goal)
        return total
