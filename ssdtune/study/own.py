"""A study as the process that runs its trials sees it: nothing read twice, what belongs together written at once.

Optuna reads the trial under way from the database again and again, asks for waiting trials before each one, and writes
every parameter and attribute in a transaction of its own. What other processes see is the same with and without this:
all is written before anything depends on it, and a trial that one of them has ended refuses to be written. What it
saves is `overhead_ms_100_trials` of ``benchmarks.house`` and `scale.storage_ms` of ``benchmarks.service``.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ssdtune.study.large import storage_of
from ssdtune.study.lost import sign_of_life

Write = tuple[str, tuple[Any, ...]]
"""A method of a storage, and what it is given."""


class OwnView:
    """``study`` is the same study, in which trials of this process are read from memory."""

    def __init__(self, study: optuna.Study) -> None:
        self._storage = _OwnTrials(storage_of(study))
        self.study = optuna.load_study(study_name=study.study_name, storage=cast(BaseStorage, self._storage))

    def trials(self) -> list[FrozenTrial]:
        """All trials: those read last, if this process has written nothing since."""
        seen = self._storage.seen
        return self.look() if seen is None else seen

    def look(self) -> list[FrozenTrial]:
        """All trials, read now."""
        return self.study.get_trials(deepcopy=False)

    def ask(self, attributes: Mapping[str, Any], *, settled: bool = False) -> tuple[optuna.Trial, list[FrozenTrial]]:
        """A new trial, or one that waits, and all trials as they were then.

        A new one has these user attributes from its first moment on; one that waits has not. ``settled`` : all is well
        as long as no other trial has been made since ``trials``, so that they need not be read again then.
        """
        self._storage.first, self._storage.settled = attributes, settled
        trial = self.study.ask()
        return trial, self.trials()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is written of trials within it at its end, in one transaction where the storage can do that.

        Raises UpdateFinishedTrialError at its end: another process has ended a trial; nothing of it is written then.
        """
        self._storage.begin()
        try:
            yield
        except BaseException:
            self._storage.drop()
            raise
        self._storage.write()


class _OwnTrials:
    """``storage`` itself, but that this process's trials under way, and the one that it ended last, are known here."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._own: dict[int, FrozenTrial] = {}
        self._queue: list[Write] | None = None
        self.first: Mapping[str, Any] = {}
        self.settled = False
        self.seen: list[FrozenTrial] | None = None  # nothing has been written since

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def begin(self) -> None:
        self._queue = []

    def drop(self) -> None:
        self._queue = None

    def write(self) -> None:
        queue, self._queue = self._queue or [], None
        together = getattr(self._storage, "write_together", None)  # see ``patience.waited_for``
        try:
            if together is None:
                for name, given in queue:
                    getattr(self._storage, name)(*given)
            elif queue:
                together(queue)
        except UpdateFinishedTrialError:
            for _, given in queue:
                self._own.pop(given[0], None)
            raise

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        seen = self.seen if states == (TrialState.WAITING,) else None
        if seen is not None and not any(trial.state == TrialState.WAITING for trial in seen):
            return []
        trials = self._storage.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        if states is None and not deepcopy:
            self.seen = trials
        return trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is None:
            template_trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=dict(self.first))
        trial_id = self._storage.create_new_trial(study_id, template_trial)
        if not hasattr(self._storage, "write_together"):  # which has made it with its first sign of life
            sign_of_life(self._storage, trial_id)
        self._own = {number: trial for number, trial in self._own.items() if not trial.state.is_finished()}
        seen, self.seen = self.seen, None
        if self.settled and seen is not None and self._id_of(study_id, len(seen)) == trial_id:  # the first one since
            made = copy.deepcopy(template_trial)
            made.number, made._trial_id = len(seen), trial_id
            self._own[trial_id], self.seen = copy.deepcopy(made), [*seen, made]
            return trial_id
        for trial in self.get_all_trials(study_id, deepcopy=False):
            if trial._trial_id == trial_id:
                self._own[trial_id] = copy.deepcopy(trial)
        return trial_id

    def _id_of(self, study_id: int, number: int) -> int | None:
        """Where Optuna has just made it, not read from the database."""
        try:
            return int(self._storage.get_trial_id_from_study_id_trial_number(study_id, number))
        except KeyError:  # a storage that has lost trials
            return None

    def get_trial(self, trial_id: int) -> FrozenTrial:
        known = self._own.get(trial_id)
        return self._storage.get_trial(trial_id) if known is None else copy.deepcopy(known)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).system_attrs

    def record_heartbeat(self, trial_id: int) -> None:
        self._write("record_heartbeat", trial_id)

    def set_trial_param(self, trial_id: int, name: str, internal: float, distribution: BaseDistribution) -> None:
        self._write("set_trial_param", trial_id, name, internal, distribution)
        if trial_id in self._own:
            self._own[trial_id].params[name] = distribution.to_external_repr(internal)
            self._own[trial_id].distributions[name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._write("set_trial_user_attr", trial_id, key, value)
        if trial_id in self._own:
            self._own[trial_id].user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._write("set_trial_system_attr", trial_id, key, value)
        if trial_id in self._own:
            self._own[trial_id].system_attrs[key] = value

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        self._write("set_trial_intermediate_value", trial_id, step, value)
        if trial_id in self._own:
            self._own[trial_id].intermediate_values[step] = value

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        own = self._own.pop(trial_id, None)
        changed = self._write("set_trial_state_values", trial_id, state, values)
        if own is not None:
            own.state, own.values, own.datetime_complete = state, values and list(values), datetime.now()
            self._own[trial_id] = own
        return changed is not False

    def _write(self, name: str, *given: Any) -> Any:
        self.seen = None
        if self._queue is None:
            return getattr(self._storage, name)(*given)
        self._queue.append((name, given))
        return None
