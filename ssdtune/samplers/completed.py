"""Trials that were stopped early, shown to a sampler as complete ones with their estimates as values.

TPE ranks every pruned trial behind every complete one, whatever its estimate; where most trials are stopped early it
would then take bad ones for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState, create_trial

_SHOWN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class CompletedSampler(BaseSampler):
    """Asks ``inner`` in a study of its own in memory, made anew for every proposal from the study's other trials."""

    def __init__(self, inner: BaseSampler) -> None:
        self._inner = inner

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return intersection_search_space(study.get_trials(deepcopy=False), include_pruned=True)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        others = study.get_trials(deepcopy=False, states=_SHOWN)
        if all(other.state != TrialState.PRUNED for other in others):
            return self._inner.sample_relative(study, trial, search_space)  # there is nothing to show otherwise
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it says that a study was created
        try:
            shadow = optuna.create_study(directions=study.directions, sampler=self._inner)
        finally:
            optuna.logging.set_verbosity(verbosity)
        shadow.add_trials([_completed(other) for other in others if other.number != trial.number])
        return shadow.ask(search_space).params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)


def _completed(trial: FrozenTrial) -> FrozenTrial:
    estimated = trial.state == TrialState.PRUNED and trial.values is not None
    state = TrialState.COMPLETE if estimated else trial.state
    values = trial.values if state == TrialState.COMPLETE else None
    return create_trial(
        state=state,
        values=values,
        params=trial.params,
        distributions=trial.distributions,
        constraints=trial.constraints,
    )
