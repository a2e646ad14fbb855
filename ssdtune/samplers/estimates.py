"""A study's trials as a sampler is shown them: from memory, and stopped ones as complete where it knows no others.

Samplers ask for all trials several times a trial, and each time the storage is asked; from memory it costs nothing.
TPE puts every pruned trial behind every complete one, whatever its estimate; with few complete trials it then takes bad
ones for good. It is shown stopped trials as complete ones with their estimates as values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Sequence
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

View = Callable[[FrozenTrial], FrozenTrial]
"""How a finished trial is shown."""


class Shown(InMemoryStorage):
    """A study of one name and direction whose trials are those last given; what is told to it is not kept.

    Finished trials never change, so each is changed by ``view`` once and not copied after that.
    """

    def __init__(self, study: optuna.Study, view: View) -> None:
        super().__init__()
        self._view, self._name = view, study.study_name
        self._trials: list[FrozenTrial] = []
        self._finished: dict[int, FrozenTrial] = {}
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it says that a study was created
        try:
            self.create_new_study(study.directions, study.study_name)
        finally:
            optuna.logging.set_verbosity(before)

    def show(self, trials: Sequence[FrozenTrial]) -> optuna.Study:
        """The study with these trials, in order of their numbers, which are to be left as they are."""
        self._trials = [self._seen(trial) for trial in trials]
        return optuna.load_study(study_name=self._name, storage=self)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        chosen = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """TPE notes what it proposes for a trial; the trial itself has it soon."""

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.state.is_finished():
            return trial
        if trial.number not in self._finished:
            self._finished[trial.number] = self._view(trial)
        return self._finished[trial.number]


def as_it_is(trial: FrozenTrial) -> FrozenTrial:
    return trial


def completed(trial: FrozenTrial) -> FrozenTrial:
    """A trial that was stopped early as a complete one with its estimate as value; others as they are."""
    if trial.state != TrialState.PRUNED or trial.value is None:
        return trial
    complete = create_trial(
        value=trial.value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        constraints=trial.constraints,
    )
    complete.number = trial.number
    return complete
