"""Where to look next for the score, from what a study has seen: pure of Optuna."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssdtune.arrays import Array
from ssdtune.plane.settings import NOWHERE, Box, Settings, maximise
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.surrogate.belief import Belief, Observations, experts_of
from ssdtune.surrogate.improvement import Goal

_APART = 0.01  # decades: closer settings are the same trial twice


@dataclass(frozen=True, eq=False)
class Pending:
    """running : settings of running trials. failed : settings not to try again. waiting : how many trials that started
    before this one have no setting yet; each is foreseen one, as its own process would choose it."""

    running: Settings = NOWHERE
    failed: Settings = NOWHERE
    waiting: int = 0


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Expected improvement of s = w retained + (1 - w) (1 - remembered) under feasibility, given what has been seen.

    prior : None leaves the generic ensemble alone. incumbent : s of the best feasible trial, or of the untouched model.
    """

    prior: HyperparameterPrior | None
    goal: Goal
    data: Observations
    incumbent: float

    def propose(self, pending: Pending, box: Box, rng: np.random.Generator) -> Settings:
        """The next setting, one, inside ``box``; one that is taken only where nothing else is left."""
        running = pending.running
        for _ in range(pending.waiting):
            running = running + self._next(running, pending.failed, box, rng)
        return self._next(running, pending.failed, box, rng)

    def _next(self, running: Settings, failed: Settings, box: Box, rng: np.random.Generator) -> Settings:
        taken = self.data.settings + running + failed
        if self.prior is not None and self.prior.leads and not len(self.data.settings):
            alpha, lam = self.prior.mode["alpha"], self.prior.mode["lambda"]
            mode = box.clip(Settings(np.array([alpha]), np.array([lam])))
            if mode.distance_to(taken)[0] >= _APART:
                return mode
        experts = self.prior.experts if self.prior is not None else experts_of(None)
        belief = Belief(experts, self.goal, self.data, self.incumbent, running)

        def gain(settings: Settings) -> Array:
            distance = settings.distance_to(taken)  # settings already taken come last, the farthest of them first
            return np.where(distance < _APART, distance - _APART - 1, belief.improvement(settings))

        return maximise(gain, box, rng)
