"""SpectrumSampler: the learned prior as an ordinary Optuna sampler; its maths lives in ``ssdtune.prior``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from ssdtune.plane.settings import Box, Settings
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.samplers.acquisition import Acquisition, Pending
from ssdtune.samplers.guard import unled
from ssdtune.samplers.reading import SeededSampler, Trials, into, one_thread, others_of, scored_of, waiting_before
from ssdtune.surrogate.belief import Observations
from ssdtune.surrogate.improvement import Goal

ALPHA, LAMBDA = "alpha", "lambda"

_PAIR = (ALPHA, LAMBDA)


class SpectrumSampler(SeededSampler):
    """Samples ``alpha`` and ``lambda`` by expected improvement of the score around a learned prior.

    The first trial is the prior's mode. Then Gaussian processes take over, one for retained and one for remembered.
    Their means are the prior's surfaces, which compete with a generic ensemble for the data, so a wrong prior is soon
    left. Beside a prior, two trials of three are the search's that has none, as if it were alone (``samplers.guard``):
    whatever the prior says, what that finds in n trials is found in 1.5 n + 2. Every proposal depends only on (seed,
    study name, how many earlier trials have not failed) and on what the storage holds: a resumed study continues as it
    would have, and processes that share a storage keep apart.

    Trials are read through their user attributes ``retained`` and ``remembered``, which may also be items of one named
    ``measures``; ``*_unclipped`` replace them where present, ``*_se`` are standard errors of estimates (pruned trials
    count with them). Where the trials' values are not this score, ``alpha`` and ``lambda`` go to
    ``independent_sampler``, as other parameters always do.

    Parameters
    ----------
    prior : from ``SpectrumMapper.predict``; None assumes nothing of the task.
    seed : None draws one.
    retain_weight, min_retained : the goal; default the prior's, without one 0.2 and 0.95.
    guard : False leaves all trials to the search with the prior.
    independent_sampler : default a TPESampler, seeded per trial and parameter.
    """

    def __init__(
        self,
        prior: HyperparameterPrior | None = None,
        *,
        seed: int | None = None,
        retain_weight: float | None = None,
        min_retained: float | None = None,
        guard: bool = True,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        base = prior.goal if prior is not None else Goal()
        self._goal = Goal(
            base.retain_weight if retain_weight is None else retain_weight,
            base.min_retained if min_retained is None else min_retained,
        )
        if prior is not None and prior.goal != self._goal:
            prior = prior.with_goal(self._goal.retain_weight, self._goal.min_retained)
        self._prior = prior
        self._guard = guard and prior is not None
        super().__init__(seed, independent_sampler)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """alpha and lambda, as soon as a trial shows their distributions and as long as all agree."""
        others = others_of(study, trial)
        own = unled(others, trial) if self._guard else None
        others = others if own is None else own
        known = [other.distributions for other in others if all(p in other.distributions for p in _PAIR)]
        if not known or any(each[name] != known[0][name] for each in known for name in _PAIR):
            return {}
        return {name: known[0][name] for name in _PAIR} if all(_ours(n, known[0][n]) for n in _PAIR) else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """alpha and lambda together; any other parameter on its own."""
        self._check_single(study)
        chosen: dict[str, Any] = {}
        if all(_ours(name, search_space.get(name)) for name in _PAIR):
            pair = {name: search_space[name] for name in _PAIR}
            others, acquisition = self._turn(study, trial)
            if acquisition is None:
                chosen = self._fallback(study, others, trial, "setting").sample_relative(study, trial, pair)
            else:
                setting = self._propose(acquisition, study, others, trial, Box(*map(_range, pair.values())))
                chosen = {name: into(pair[name], setting[name]) for name in _PAIR}
        for name, distribution in search_space.items():
            if name not in chosen:
                chosen[name] = self.sample_independent(study, trial, name, distribution)
        return chosen

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """alpha or lambda given what the trial already has of the other; other parameters by the fallback."""
        self._check_single(study)
        ours = _ours(param_name, param_distribution)
        others, acquisition = self._turn(study, trial) if ours else (others_of(study, trial), None)
        if acquisition is None:
            sampler = self._fallback(study, others, trial, param_name)
            return sampler.sample_independent(study, trial, param_name, param_distribution)
        other = LAMBDA if param_name == ALPHA else ALPHA
        default = acquisition.prior.bounds if acquisition.prior is not None else Box()
        ranges = {ALPHA: default.alpha, LAMBDA: default.lam, param_name: _range(param_distribution)}
        if _ours(other, trial.distributions.get(other)):
            ranges[other] = _range(trial.distributions[other])
        setting = self._propose(acquisition, study, others, trial, Box(ranges[ALPHA], ranges[LAMBDA]))
        fixed = trial.params.get(other)
        if fixed is not None and fixed > 0 and not math.isclose(fixed, setting[other], rel_tol=1e-9):
            ranges[other] = (fixed, fixed)
            setting = self._propose(acquisition, study, others, trial, Box(ranges[ALPHA], ranges[LAMBDA]))
        return into(param_distribution, setting[param_name])

    def _turn(self, study: optuna.Study, trial: FrozenTrial) -> tuple[Trials, Acquisition | None]:
        """The other trials that the trial's search sees, and how it proposes."""
        others = others_of(study, trial)
        own = unled(others, trial) if self._guard else None
        alone = None if own is None else self._acquisition(study, own, None)
        if own is not None and alone is not None:
            return own, alone
        return others, self._acquisition(study, others, self._prior)

    def _propose(
        self, acquisition: Acquisition, study: optuna.Study, others: Trials, trial: FrozenTrial, box: Box
    ) -> dict[str, float]:
        rng = np.random.default_rng(self._seed_of(study, others, trial, "setting"))
        with one_thread():
            found = acquisition.propose(_pending(others, trial), box, rng)
        return {ALPHA: float(found.alpha[0]), LAMBDA: float(found.lam[0])}

    def _acquisition(
        self, study: optuna.Study, trials: Trials, prior: HyperparameterPrior | None
    ) -> Acquisition | None:
        """None where the trials' values are not this sampler's score."""
        found = scored_of(study, [trial for trial in trials if _placed(trial)], self._goal)
        if found is None:
            return None
        seen, outputs, incumbent = found
        data = Observations(_settings(seen), outputs[:, 0].T, outputs[:, 1].T)
        return Acquisition(prior, self._goal, data, incumbent)


def _pending(trials: Trials, trial: FrozenTrial) -> Pending:
    running = [other for other in trials if other.state == TrialState.RUNNING]
    failed = _settings([other for other in trials if other.state == TrialState.FAIL and _placed(other)])
    repeated = [i for i in range(len(failed)) if (failed.distance_to(failed.take([i])) < 1e-6).sum() > 1]
    placed = _settings([other for other in running if _placed(other)])
    return Pending(placed, failed.take(np.array(repeated, int)), waiting_before(trials, trial, _PAIR))


def _placed(trial: FrozenTrial) -> bool:
    """Whether the trial has both parameters, in a range that can be searched on a log scale."""
    return all(isinstance(trial.params.get(name), float) and trial.params[name] > 0 for name in _PAIR)


def _settings(trials: Trials) -> Settings:
    return Settings(*(np.array([trial.params[name] for trial in trials], float) for name in _PAIR))


def _ours(name: str, distribution: BaseDistribution | None) -> bool:
    return name in _PAIR and isinstance(distribution, FloatDistribution) and distribution.low > 0


def _range(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, FloatDistribution)
    return distribution.low, distribution.high
