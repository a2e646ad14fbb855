"""A storage that knows the trials it runs: only those of other processes are read from the database.

Optuna reads a trial anew at every step of it, and looks for lost trials and for waiting ones before each. To a small
study that is most of the time between evaluations. What is written is written as Optuna does, at once.
"""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from ssdtune.study.heartbeat import Heartbeat


class TrialStorage(BaseStorage):
    """An RDBStorage with Optuna's own cache of finished trials, and beside it the trials that run here.

    A trial is in memory from its creation here until its end, or until a write to it is refused as another process has
    ended it. Signs of life are recorded, and trials without any are failed, at the database's ``heartbeat_interval``.
    """

    def __init__(self, database: RDBStorage) -> None:
        self.database = database
        self._cached = optuna.storages.get_storage(database)
        self._own: dict[int, tuple[int, FrozenTrial]] = {}  # with their study
        self._heartbeat = Heartbeat(database.record_heartbeat, database.get_heartbeat_interval())
        self._searched: dict[int, float] = {}  # when a study was last searched for lost trials
        self._finished: dict[int, list[FrozenTrial]] = {}  # a study's first trials, all finished

    def __reduce__(self) -> tuple[type[TrialStorage], tuple[RDBStorage]]:
        return TrialStorage, (self.database,)

    @property
    def engine(self) -> sqlalchemy.Engine:
        """The database's own."""
        return self.database.engine

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None:
            return self._cached.create_new_trial(study_id, template_trial)
        self.fail_lost_trials(study_id)
        trial = create_trial(state=TrialState.RUNNING)
        trial_id = self._cached.create_new_trial(study_id, trial)
        own = FrozenTrial(
            number=self._number_of(study_id, trial_id),
            state=trial.state,
            value=None,
            datetime_start=trial.datetime_start,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=trial_id,
        )
        self._own[trial_id] = study_id, own
        self._heartbeat.start(trial_id)
        return trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id not in self._own:
            return self._cached.get_trial(trial_id)
        _, own = self._own[trial_id]
        seen = copy.copy(own)
        seen.params, seen.distributions = dict(own.params), dict(own.distributions)
        seen.user_attrs, seen.system_attrs = dict(own.user_attrs), dict(own.system_attrs)
        seen.intermediate_values = dict(own.intermediate_values)
        return seen

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """All trials as the database has them.

        Finished trials stay as they are, so without ``deepcopy`` they are not read again while there are no others.
        ``datetime_complete`` of one that has run here may then be a moment off.
        """
        if deepcopy or not self._all_finished(study_id):
            trials = self._cached.get_all_trials(study_id, deepcopy=False)
            if all(trial.state.is_finished() for trial in trials):
                self._finished[study_id] = trials
        else:
            trials = self._finished[study_id]
        chosen = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        with self._changing(trial_id) as own:
            self._cached.set_trial_param(trial_id, param_name, param_value_internal, distribution)
            own.params[param_name] = distribution.to_external_repr(param_value_internal)
            own.distributions[param_name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._changing(trial_id) as own:
            self._cached.set_trial_user_attr(trial_id, key, value)
            own.user_attrs[key] = json.loads(json.dumps(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._changing(trial_id) as own:
            self._cached.set_trial_system_attr(trial_id, key, value)
            own.system_attrs[key] = json.loads(json.dumps(value))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        with self._changing(trial_id) as own:
            self._cached.set_trial_intermediate_value(trial_id, step, intermediate_value)
            own.intermediate_values[step] = intermediate_value

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        study_id, own = self._own.pop(trial_id, (0, None))
        if state.is_finished():
            self._heartbeat.stop(trial_id)
        changed = self._cached.set_trial_state_values(trial_id, state, values)
        if changed and state == TrialState.RUNNING:
            self._heartbeat.start(trial_id)
        if changed and state.is_finished() and own is not None:
            own.state, own.datetime_complete = state, datetime.now()
            own.values = None if values is None else list(values)
            finished = self._finished.get(study_id, [])
            if own.number == len(finished):
                self._finished[study_id] = [*finished, own]
        return changed

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._cached.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self._finished.pop(study_id, None)  # SQLite gives its id to the next
        self._cached.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._cached.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._cached.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._cached.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._cached.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._cached.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._cached.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._cached.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[Any]:
        return self._cached.get_all_studies()

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._cached.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._cached.get_best_trial(study_id)

    def fail_lost_trials(self, study_id: int) -> None:
        """Fail trials whose process gives no sign of life any more, if that was not looked for just now."""
        interval, now = self._heartbeat.interval, time.monotonic()
        if interval is None or now - self._searched.get(study_id, -interval) < interval:
            return
        self._searched[study_id] = now
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            name = self._cached.get_study_name_from_id(study_id)
            optuna.storages.fail_stale_trials(optuna.load_study(study_name=name, storage=self._cached))

    @contextmanager
    def _changing(self, trial_id: int) -> Iterator[FrozenTrial]:
        """The trial as it is in memory (some trial, if it is not there)."""
        try:
            yield self._own[trial_id][1] if trial_id in self._own else create_trial(state=TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            self._own.pop(trial_id, None)
            self._heartbeat.stop(trial_id)
            raise

    def _number_of(self, study_id: int, trial_id: int) -> int:
        """A new trial's number: the next, which the cache knows, unless another process was quicker."""
        number = len(self._finished.get(study_id, ()))
        if self._cached.get_trial_id_from_study_id_trial_number(study_id, number) == trial_id:
            return number
        return self._cached.get_trial(trial_id).number

    def _all_finished(self, study_id: int) -> bool:
        """Whether the finished trials in memory are all that the study has."""
        if study_id not in self._finished:
            return False
        try:
            self._cached.get_trial_id_from_study_id_trial_number(study_id, len(self._finished[study_id]))
        except KeyError:
            return True
        return False
