"""A storage that lets optuna-dashboard see constraints.

optuna-dashboard 0.21 takes its best trial straight from the storage, whether it is feasible or not, and knows
constraints only as the list that Optuna wrote before ``Trial.set_constraint`` (optuna/optuna-dashboard issue 772). This
storage answers both as Optuna 5 itself does; it changes nothing that is stored.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ssdtune.study.record import read_trial

_OLD_KEY = "constraints"


class DashboardStorage(RDBStorage):
    """An RDBStorage for reading by the dashboard."""

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best feasible trial, as ``study.best_trial``; without one, the best of all."""
        finished = super().get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        feasible = [trial for trial in finished if all(value <= 0 for value in trial.constraints.values())]
        if not feasible:
            return super().get_best_trial(study_id)
        rising = self.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
        return (max if rising else min)(feasible, key=lambda trial: trial.values[0])

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return readable(super().get_study_user_attrs(study_id))

    def get_all_studies(self) -> list[Any]:
        """All studies, with their readable attributes: a study's own page shows these."""
        studies = super().get_all_studies()
        for study in studies:
            study.user_attrs = readable(study.user_attrs)
        return studies

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """All trials, with their measures one by one, and their constraints under the old key too."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        for trial in trials:
            trial.user_attrs = read_trial(trial)
            if trial.constraints:
                trial.system_attrs = {**trial.system_attrs, _OLD_KEY: list(trial.constraints.values())}
        return trials


def readable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """All but the pieces of large values (``prior:0``), which version 1 kept among them, the shortest first."""
    kept = [(name, value) for name, value in attributes.items() if not name.rpartition(":")[2].isdigit()]
    return dict(sorted(kept, key=lambda pair: len(str(pair[1]))))
