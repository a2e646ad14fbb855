"""Where to look next, from what a study has seen: pure of Optuna.

A search has seen trials with their retained and remembered (``History``), or, for an objective that does not record
them, values alone (``ValueHistory``). Both ask for the setting of largest expected improvement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdtune.prior.belief import Belief, Observations, experts_of
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.prior.gp import Field, GaussianProcess, Kernel
from ssdtune.prior.improvement import Goal, call
from ssdtune.prior.plane import NOWHERE, Box, Settings, maximise

Array = NDArray[np.float64]

_APART = 0.01  # decades: closer settings are the same trial twice


@dataclass(frozen=True, eq=False)
class History:
    """data : outputs of evaluated settings. incumbent : s of the best feasible one. pending : settings under way.
    failed : settings not to try again. waiting : trials that started before this one and have no setting yet."""

    data: Observations
    incumbent: float
    pending: Settings = NOWHERE
    failed: Settings = NOWHERE
    waiting: int = 0


class Searcher:
    """Expected improvement of s under feasibility around a prior, or around the generic ensemble (None)."""

    def __init__(self, prior: HyperparameterPrior | None, goal: Goal) -> None:
        self.goal = goal
        self._prior = prior
        self._experts = prior.experts if prior is not None else experts_of(None)

    def propose(self, history: History, box: Box, rng: np.random.Generator) -> Settings:
        """The next setting. Trials that wait for theirs are given one first, as their own process would."""
        pending = history.pending
        for _ in range(history.waiting):
            pending = pending + self._one(history, pending, box, rng)
        return self._one(history, pending, box, rng)

    def _one(self, history: History, pending: Settings, box: Box, rng: np.random.Generator) -> Settings:
        taken = history.data.settings + pending + history.failed
        if self._prior is not None and not len(taken) and self._trusted():
            mode = self._prior.mode
            return box.clip(Settings(np.array([mode["alpha"]]), np.array([mode["lambda"]])))
        belief = Belief(self._experts, self.goal, history.data, history.incumbent, pending)
        best, _ = maximise(lambda settings: apart(belief.improvement(settings), settings, taken), box, rng)
        return best

    def _trusted(self) -> bool:
        """Whether the prior agrees with what is known without a trial, so that its mode is worth the first one."""
        shares = Belief(self._experts, self.goal).shares
        return sum(share for expert, share in shares.items() if expert.basis or expert is self._experts[0]) > 0.5


def apart(gain: Array, settings: Settings, taken: Settings) -> Array:
    """``gain`` with settings that are already taken put last, the farthest of them first."""
    distance = settings.distance_to(taken)
    return np.where(distance < _APART, distance - _APART - 1, gain)
