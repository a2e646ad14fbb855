"""Trials stopped early as a sampler should see them that knows complete trials only, or ranks pruned ones below them.

TPE puts every pruned trial behind every complete one, whatever its estimate; with few complete trials it then takes bad
ones for good. It is shown a copy of the study in which a stopped trial is complete and has its estimate as value.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial


def with_estimates(study: optuna.Study) -> optuna.Study:
    """A copy of the study in memory, trial by trial, with stopped trials complete. Nothing told to it is kept."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it says that a study was created
    try:
        shown = optuna.create_study(study_name=study.study_name, directions=study.directions)
    finally:
        optuna.logging.set_verbosity(before)
    shown.add_trials([_completed(trial) for trial in study.get_trials(deepcopy=False)])
    return shown


def _completed(trial: FrozenTrial) -> FrozenTrial:
    if trial.state != TrialState.PRUNED or trial.value is None:
        return trial
    return create_trial(
        value=trial.value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        constraints=trial.constraints,
    )
