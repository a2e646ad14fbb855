"""Where to look next, from what a study has seen: pure of Optuna.

A search around the score has seen the retained and remembered of its trials, that of a foreign objective only values.
Both propose the setting of largest expected improvement, and never one that is already taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ssdtune.plane.settings import NOWHERE, Box, Settings, maximise
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.surrogate.belief import Belief, Observations, experts_of
from ssdtune.surrogate.gp import Field, GaussianProcess, Kernel
from ssdtune.surrogate.improvement import Goal, call

Array = NDArray[np.float64]

_APART = 0.01  # decades: closer settings are the same trial twice


@dataclass(frozen=True, eq=False)
class UnderWay:
    """pending : settings of running trials. failed : settings not to try again. waiting : how many trials that started
    before this one have no setting yet; each is foreseen one, as its own process would choose it."""

    pending: Settings = NOWHERE
    failed: Settings = NOWHERE
    waiting: int = 0


class Search(Protocol):
    """What a study has seen, ready to be asked for the next setting."""

    def propose(self, under_way: UnderWay, box: Box, rng: np.random.Generator) -> Settings:
        """The next setting, one, inside ``box``."""


@dataclass(frozen=True, eq=False)
class ScoreSearch:
    """Search of s = w retained + (1 - w) (1 - remembered) under feasibility.

    prior : None leaves the generic ensemble alone. incumbent : s of the best feasible trial, or of the untouched model.
    """

    prior: HyperparameterPrior | None
    goal: Goal
    data: Observations
    incumbent: float

    def propose(self, under_way: UnderWay, box: Box, rng: np.random.Generator) -> Settings:
        return _in_turn(self._one, under_way, box, rng)

    def _one(self, under_way: UnderWay, box: Box, rng: np.random.Generator) -> Settings:
        taken = self.data.settings + under_way.pending + under_way.failed
        experts = self.prior.experts if self.prior is not None else experts_of(None)
        if self.prior is not None and self.prior.leads and not len(self.data.settings):
            mode = box.clip(_setting(self.prior.mode["alpha"], self.prior.mode["lambda"]))
            if mode.distance_to(taken)[0] >= _APART:
                return mode
        belief = Belief(experts, self.goal, self.data, self.incumbent, under_way.pending)
        best, _ = maximise(lambda some: _apart(belief.improvement(some), some.distance_to(taken)), box, rng)
        return best


_VALUE_LENGTHS = (0.15, 0.35, 0.8)  # of the box's sides
_VALUE_NOISE = 0.01  # of the values' sd


@dataclass(frozen=True, eq=False)
class ValueSearch:
    """Search of any objective over (alpha, lambda): values (n,) at settings, n >= 1, larger is better."""

    settings: Settings
    values: Array

    def propose(self, under_way: UnderWay, box: Box, rng: np.random.Generator) -> Settings:
        return _in_turn(self._one, under_way, box, rng)

    def _one(self, under_way: UnderWay, box: Box, rng: np.random.Generator) -> Settings:
        taken = self.settings + under_way.pending + under_way.failed
        spread = self.values.std()
        y = (self.values - self.values.mean()) / (spread if spread > 0 else 1.0)
        known, pending = _flat(self.settings, box), _flat(under_way.pending, box)
        processes = [
            GaussianProcess.fit(
                known, y[None], np.full((1, len(y)), _VALUE_NOISE), Kernel(np.full((1, 2), length)), pending
            )
            for length in _VALUE_LENGTHS
        ]
        evidence = np.array([process.log_evidence[0] for process in processes])
        weights = np.exp(evidence - logsumexp(evidence))

        def gain(settings: Settings) -> Array:
            test = _flat(settings, box)
            total = np.zeros(len(settings))
            for weight, process in zip(weights, processes, strict=True):
                prediction = process.predict(test)
                total += weight * call(prediction.mean[0, 0], np.sqrt(prediction.cov[0, 0] + 1e-12), y.max())
            return _apart(total, settings.distance_to(taken, folded=False))

        best, _ = maximise(gain, box, rng, folded=False)
        return best


def _in_turn(
    one: Callable[[UnderWay, Box, np.random.Generator], Settings],
    under_way: UnderWay,
    box: Box,
    rng: np.random.Generator,
) -> Settings:
    pending = under_way.pending
    for _ in range(under_way.waiting):
        pending = pending + one(UnderWay(pending, under_way.failed), box, rng)
    return one(UnderWay(pending, under_way.failed), box, rng)


def _flat(settings: Settings, box: Box) -> Field:
    """A field with nothing known beforehand: mean 0, amplitude 1, coordinates in sides of the box."""
    low, high = box.logs.T
    z = (np.stack(settings.logs(folded=False), axis=-1) - low) / np.where(high > low, high - low, 1.0)
    n = len(settings)
    return Field(z, np.zeros((1, 1, n)), np.empty((0, 1, n)), np.ones((1, n)))


def _setting(alpha: float, lam: float) -> Settings:
    return Settings(np.array([alpha]), np.array([lam]))


def _apart(gain: Array, distance: Array) -> Array:
    """``gain``, but settings already taken come last, the farthest of them first."""
    return np.where(distance < _APART, distance - _APART - 1, gain)
