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
from ssdtune.samplers.reading import SeededSampler, Trials, into, one_thread, others_of, scored_of, waiting_before
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import KnobBelief, Seen

_APART = 0.01  # closer places are the same trial twice
_LOCAL, _NEAR = 128, 0.06  # places drawn around the incumbent, and their sd


class KnobSampler(SeededSampler):
    """Samples a method's knobs by expected improvement of the score, around what other tasks foretell if anything does.

    The first trial is the prior's mode; then Gaussian processes around its members, and one that assumes nothing, are
    weighed by the trials. A prior without members has only the last, and begins with its first place.
    Every proposal depends only on (seed, study name, how many earlier trials have not failed) and on what the storage
    holds. Trials are read as by ``SpectrumSampler``; where their values are not this score, and for parameters that the
    prior does not have, ``independent_sampler`` serves.

    Parameters
    ----------
    prior : of the study's method and task. seed : None draws one.
    goal : default the prior's. independent_sampler : default a TPESampler, seeded per trial and parameter.
    """

    def __init__(
        self,
        prior: KnobPrior,
        *,
        seed: int | None = None,
        goal: Goal | None = None,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        goal = goal or prior.goal
        self._prior = prior if goal == prior.goal else prior.with_goal(goal.retain_weight, goal.min_retained)
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
        others = others_of(study, trial)
        placed = [other for other in others if names <= other.params.keys()]
        found = scored_of(study, placed, self._prior.goal)
        if found is None or names != search_space.keys():
            return {n: self.sample_independent(study, trial, n, each) for n, each in search_space.items()}
        running = self._places([other for other in placed if other.state == TrialState.RUNNING])
        failed = self._places([other for other in placed if other.state == TrialState.FAIL])
        repeated = [i for i, place in enumerate(failed) if (failed == place).all(axis=1).sum() > 1]
        rng = np.random.default_rng(self._seed_of(study, others, trial, "setting"))
        with one_thread():
            for _ in range(waiting_before(others, trial, names)):  # each as its own process would choose it
                running = np.vstack([running, self._next(found, running, failed[repeated], rng)])
            setting = self._prior.setting(self._next(found, running, failed[repeated], rng))
        return {name: into(search_space[name], value) for name, value in setting.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What the prior does not know, or not over this range."""
        self._check_single(study)
        others = others_of(study, trial)
        sampler = self._fallback(study, others, trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _next(
        self, found: tuple[list[FrozenTrial], Array, float], running: Array, failed: Array, rng: np.random.Generator
    ) -> Array:
        """The place to try next, (D,): of the prior's places and some around the best trial, none taken twice.

        failed : where trials have failed more than once; an interrupted one is repeated.
        """
        trials, outputs, incumbent = found
        seen = Seen(self._places(trials), outputs[:, 0].T, outputs[:, 1].T)
        belief = KnobBelief(self._prior.foreseen, self._prior.goal, seen, incumbent, running)
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

    def _places(self, trials: Trials) -> Array:
        return np.array([self._prior.place(trial.params) for trial in trials]).reshape(-1, len(self._prior.knobs))
