"""KnobSampler: expected improvement over any method's knobs as an ordinary Optuna sampler; its maths lives in
``surrogate``."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.spatial import KDTree

from ssdtune.arrays import Array
from ssdtune.prior.knobs import KnobPrior
from ssdtune.samplers.guard import unled
from ssdtune.samplers.reading import (
    Found,
    SeededSampler,
    Trials,
    into,
    one_thread,
    others_of,
    scored_of,
    waiting_before,
)
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, KnobBelief, Seen

_APART = 0.01  # closer places are the same trial twice
_LOCAL, _NEAR = 128, 0.06  # places drawn around the incumbent, and their sd


class KnobSampler(SeededSampler):
    """Samples a method's knobs by expected improvement of the score, around what other tasks foretell if anything does.

    The first trial is the prior's mode; then Gaussian processes around its members, and one that assumes nothing, are
    weighed by the trials. A prior without members has only the last, and begins with its first place. Beside members,
    two trials of three are the search's that has none, as if it were alone (``samplers.guard``): whatever the prior
    says, what that finds in n trials is found in 1.5 n + 2.
    Every proposal depends only on (seed, study name, how many earlier trials have not failed) and on what the storage
    holds. Trials are read as by ``SpectrumSampler``; where their values are not this score, and for parameters that the
    prior does not have, ``independent_sampler`` serves.

    Parameters
    ----------
    prior : of the study's method and task. seed : None draws one.
    goal : default the prior's. guard : False leaves all trials to the members.
    independent_sampler : default a TPESampler, seeded per trial and parameter.
    """

    def __init__(
        self,
        prior: KnobPrior,
        *,
        seed: int | None = None,
        goal: Goal | None = None,
        guard: bool = True,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        goal = goal or prior.goal
        self._prior = prior if goal == prior.goal else prior.with_goal(goal.retain_weight, goal.min_retained)
        self._guard = guard and prior.foreseen is not None
        super().__init__(seed, independent_sampler)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The prior's knobs, over its ranges."""
        return {
            knob.name: IntDistribution(int(knob.low), int(knob.high), log=knob.scale == "log")
            if knob.integer
            else FloatDistribution(knob.low, knob.high, log=knob.scale == "log")
            for knob in self._prior.knobs
        }

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All knobs together; by the independent sampler where the values are not this sampler's score."""
        self._check_single(study)
        names = {knob.name for knob in self._prior.knobs}
        turn = self._turn(study, trial)
        if turn is None or names != search_space.keys():
            return {n: self.sample_independent(study, trial, n, each) for n, each in search_space.items()}
        foreseen, others, found = turn
        placed = self._placed(others)
        running = self._places([other for other in placed if other.state == TrialState.RUNNING])
        failed = self._places([other for other in placed if other.state == TrialState.FAIL])
        repeated = [i for i, place in enumerate(failed) if (failed == place).all(axis=1).sum() > 1]
        rng = np.random.default_rng(self._seed_of(study, others, trial, "setting"))
        with one_thread():
            for _ in range(waiting_before(others, trial, names)):  # each as its own process would choose it
                running = np.vstack([running, self._next(foreseen, found, running, failed[repeated], rng)])
            setting = self._prior.setting(self._next(foreseen, found, running, failed[repeated], rng))
        return {name: into(search_space[name], value) for name, value in setting.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What the prior does not know, or not over this range."""
        self._check_single(study)
        others = others_of(study, trial)
        sampler = self._fallback(study, others, trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _turn(self, study: optuna.Study, trial: FrozenTrial) -> tuple[Foreseen | None, Trials, Found] | None:
        """What the trial's search foresees, the other trials that it sees, and what they came to; None where the
        study's values are not this score."""
        others = others_of(study, trial)
        found = scored_of(study, self._placed(others), self._prior.goal)
        own = unled(others, trial) if self._guard and found is not None else None
        if own is not None and (alone := scored_of(study, self._placed(own), self._prior.goal)) is not None:
            return None, own, alone
        return None if found is None else (self._prior.foreseen, others, found)

    def _next(
        self, foreseen: Foreseen | None, found: Found, running: Array, failed: Array, rng: np.random.Generator
    ) -> Array:
        """The place to try next, (D,): of the prior's places and some around the best trial, none taken twice.

        failed : where trials have failed more than once; an interrupted one is repeated.
        """
        trials, outputs, incumbent = found
        seen = Seen(self._places(trials), outputs[:, 0].T, outputs[:, 1].T)
        belief = KnobBelief(foreseen, self._prior.goal, seen, incumbent, running)
        candidates = self._prior.places
        y, goal = seen.y, self._prior.goal
        if len(trials):
            s = np.where(goal.feasible(y[0]), goal.score(*y), goal.untouched - (1 - np.clip(y[0], 0, 1)))
            near = seen.places[int(s.argmax())] + _NEAR * rng.standard_normal((_LOCAL, len(self._prior.knobs)))
            candidates = np.concatenate([candidates, self._prior.taken_by(np.clip(near, 0, 1))])
        taken = np.concatenate([seen.places, running, failed])
        distance, _ = KDTree(taken).query(candidates, p=np.inf)
        gain = np.where(distance < _APART, distance - 1, belief.improvement(candidates))
        place: Array = candidates[int(gain.argmax())]
        return place

    def _placed(self, trials: Trials) -> Trials:
        """Those that have all knobs."""
        return [trial for trial in trials if all(knob.name in trial.params for knob in self._prior.knobs)]

    def _places(self, trials: Trials) -> Array:
        return np.array([self._prior.place(trial.params) for trial in trials]).reshape(-1, len(self._prior.knobs))
