"""What a sampler is shown of a study: trials that were read once, in a study in memory that keeps nothing.

Optuna's samplers read all trials of a study several times for one proposal, which with a database is most of what a
proposal costs. And TPE ranks every pruned trial behind every complete one, whatever its estimate; where most trials are
stopped early it would then take bad ones for good.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

Trials = Sequence[FrozenTrial]


class _Shown(InMemoryStorage):
    """One study, whose trials are those given. What samplers write of a trial under way is not kept."""

    def __init__(self, study: optuna.Study, trials: Trials) -> None:
        super().__init__()
        self._name, self._directions, self._trials = study.study_name, study.directions, trials

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._directions

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        chosen = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass


class ViewSampler(BaseSampler):
    """Asks ``inner`` in a view of the study that has the trials that ``show`` gives of it, those of one moment.

    Not for samplers that keep something in the storage.
    """

    def __init__(self, inner: BaseSampler, show: Callable[[optuna.Study], Trials]) -> None:
        self._inner, self._show = inner, show
        self._view: optuna.Study | None = None

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._view = None  # of an earlier trial
        return self._inner.infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(self._seen(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)

    def _seen(self, study: optuna.Study) -> optuna.Study:
        if self._view is None:
            storage = _Shown(study, self._show(study))
            self._view = optuna.load_study(study_name=study.study_name, storage=storage, sampler=self._inner)
        return self._view


def estimates_as_values(study: optuna.Study) -> list[FrozenTrial]:
    """The study's trials, those that were stopped early as complete ones with their estimates as values."""
    return [_completed(trial) for trial in study.get_trials(deepcopy=False)]


def _completed(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.PRUNED or trial.values is None:
        return trial
    complete = copy.copy(trial)
    complete.state = TrialState.COMPLETE
    return complete
