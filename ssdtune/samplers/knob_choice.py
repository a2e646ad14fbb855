"""Where to look next over a method's knobs, from what a study has seen: pure of Optuna."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from scipy.spatial import KDTree

from ssdtune.arrays import Array
from ssdtune.prior.knobs import KnobPrior
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief, Seen

_APART = 0.01  # closer places are the same trial twice
_LOCAL, _NEAR = 128, 0.06  # places drawn around the incumbent, and their sd
_KEPT = 1024


@dataclass(frozen=True, eq=False)
class KnobChoice:
    """One choice: of the largest expected improvement among the prior's places and some around the best trial.

    prior : whose knobs, places and goal are searched. foreseen : its members, or None to assume nothing. incumbent : s
    of the best feasible trial, or of the untouched model. running : places (r, D). failed : places (f, D) where trials
    have failed more than once; an interrupted one is repeated. seed : of the places around the best trial.
    """

    prior: KnobPrior
    foreseen: Foreseen | None
    seen: Seen
    incumbent: float
    running: Array
    failed: Array
    seed: int

    @property
    def place(self) -> Array:
        """(D,): none taken twice."""
        return self._chosen() if self.foreseen is not None else _chosen_alone(self)

    def after_running(self, place: Array) -> KnobChoice:
        """The next choice, while a trial at a place (D,) runs too."""
        return replace(self, running=np.vstack([self.running, place]), seed=self.seed + 1)

    def _chosen(self) -> Array:
        belief = KnobBelief(self.foreseen, self.prior.goal, self.seen, self.incumbent, self.running)
        candidates = self.prior.places
        y, goal = self.seen.y, self.prior.goal
        if len(self.seen.places):
            s = np.where(goal.feasible(y[0]), goal.score(*y), goal.untouched - (1 - np.clip(y[0], 0, 1)))
            draws = np.random.default_rng(self.seed).standard_normal((_LOCAL, len(self.prior.knobs)))
            near = np.clip(self.seen.places[int(s.argmax())] + _NEAR * draws, 0, 1)
            candidates = np.concatenate([candidates, self.prior.taken_by(near)])
        taken = np.concatenate([self.seen.places, self.running, self.failed])
        distance, _ = KDTree(taken).query(candidates, p=np.inf)
        gain = np.where(distance < _APART, distance - 1, belief.improvement(candidates))
        place: Array = candidates[int(gain.argmax())].copy()  # a view would keep them all
        return place

    @cached_property
    def _key(self) -> tuple[object, ...]:
        """All that the choice depends on beside what is foreseen."""
        arrays = (self.prior.places, *self.seen, self.running, self.failed)
        return self.prior.knobs, self.prior.goal, self.seed, self.incumbent, *(each.tobytes() for each in arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KnobChoice) and self.foreseen is other.foreseen and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=_KEPT)
def _chosen_alone(choice: KnobChoice) -> Array:
    """The choice of a search that assumes nothing. It is asked for again at every turn after it."""
    return choice._chosen()
