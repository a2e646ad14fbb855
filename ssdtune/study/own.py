"""A study that does not read back what this process has written itself.

Optuna reads the trial under way from the database again and again: when it is asked for, at its constraint, before it
is told and after. What other processes see is the same with and without this: all is written at once, and a trial that
one of them has ended refuses to be written. What it saves is `overhead_ms_100_trials` of ``benchmarks.house``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ssdtune.study.large import storage_of


def own_view(study: optuna.Study) -> optuna.Study:
    """The same study, in which the trial asked for last is read from memory."""
    storage = cast(BaseStorage, _OwnTrial(storage_of(study)))
    return optuna.load_study(study_name=study.study_name, storage=storage)


class _OwnTrial:
    """``storage`` itself, but that the trial made last is known here as well."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._own: dict[int, FrozenTrial] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = self._storage.create_new_trial(study_id, template_trial)
        self._own = {trial_id: self._storage.get_trial(trial_id)}
        return trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        known = self._own.get(trial_id)
        return self._storage.get_trial(trial_id) if known is None else copy.deepcopy(known)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).system_attrs

    def set_trial_param(self, trial_id: int, name: str, internal: float, distribution: BaseDistribution) -> None:
        self._storage.set_trial_param(trial_id, name, internal, distribution)
        if trial_id in self._own:
            self._own[trial_id].params[name] = distribution.to_external_repr(internal)
            self._own[trial_id].distributions[name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, key, value)
        if trial_id in self._own:
            self._own[trial_id].user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(trial_id, key, value)
        if trial_id in self._own:
            self._own[trial_id].system_attrs[key] = value

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        self._storage.set_trial_intermediate_value(trial_id, step, value)
        if trial_id in self._own:
            self._own[trial_id].intermediate_values[step] = value

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        own = self._own.pop(trial_id, None)
        changed = self._storage.set_trial_state_values(trial_id, state, values)
        if own is not None:
            own.state, own.values, own.datetime_complete = state, values and list(values), datetime.now()
            self._own = {trial_id: own}
        return changed
