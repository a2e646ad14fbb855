"""Finished trials as the parents of a composition (``unlearning.compose``): which, and as what plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage

from ssdtune.errors import ConfigError
from ssdtune.study.record import StudyRecord, is_ours, read_record, read_trial
from ssdtune.study.run import check_inputs, setting_seed
from ssdtune.study.storage import load_study, study_names
from ssdtune.study.trials import ScoredTrial, scored_trials
from ssdtune.studyfile import FisherSection, MethodSection, StudyFile
from ssdtune.task import Task
from ssdtune.unlearning.methods import Chosen

FORGETS = 0.99  # remembered below which a trial forgets at all
NEAR = 0.05  # of min_retained, within which a trial is near being feasible
MOST = 8  # parents of a merge

Candidate = tuple[optuna.Study, StudyRecord, ScoredTrial]


def parents_of(studies: Sequence[optuna.Study], task: Task, kind: str = "interpolate") -> list[dict[str, Any]]:
    """Parents of a composition of this kind, as the option ``parents`` takes them.

    Two ends of the front of retained and remembered over all studies: the trial that retains most among those that
    forget at all, and the one that forgets best among those near being feasible; of ``merge`` the best of the latter.
    Trials that stopped early, compositions themselves, and trainings that move running statistics are left out.

    Raises
    ------
    ConfigError : there are not two of them.
    DataError : a study was made with another model or other data. StorageError : it was not made by ssdtune.
    """
    found: list[Candidate] = []
    for study in studies:
        record = read_record(study)
        check_inputs(record, task)
        if record.method["name"] != "compose" and record.method.get("mode") != "train":
            found += [(study, record, trial) for trial in scored_trials(study, record=record) if _forgets(trial)]
    if len(found) < 2:
        names = ", ".join(study.study_name for study in studies) or "none"
        what = f"{len(found)} finished trials that forget, of studies: {names}"
        raise ConfigError(what, "--parents", "name studies of the same task with two at least, or run them further")
    near = [each for each in found if each[2].score.violation <= NEAR] or found
    if kind == "merge":
        best = sorted(near if len(near) > 1 else found, key=lambda each: -each[2].score.value)
        return [_plain(*each) for each in best[:MOST]]
    last = min(near, key=lambda each: (each[2].score.remembered, -each[2].score.retained))
    rest = [each for each in found if each is not last]
    first = max(rest, key=lambda each: (each[2].score.retained, -each[2].score.remembered))
    return [_plain(*first), _plain(*last)]


def with_parents(
    study_file: StudyFile, chosen: Chosen, names: Sequence[str], storage: BaseStorage, task: Task
) -> StudyFile:
    """A study file whose method has its parents written in; ``names`` of studies, none: all of this task.

    Raises ConfigError for parents that were analysed otherwise.
    """
    if names:
        studies = [load_study(name, storage) for name in names]
    else:
        every = [load_study(name, storage) for name in study_names(storage)]
        ours = [study for study in every if is_ours(study.user_attrs)]
        studies = [study for study in ours if read_record(study).identity == task.identity]
        studies = [study for study in studies if _analysed_alike(read_record(study).fisher, study_file.fisher)]
    for study in studies:
        if not _analysed_alike(read_record(study).fisher, study_file.fisher):
            what = f"study '{study.study_name}' has another [fisher] than the study file"
            raise ConfigError(what, "--parents", "leave it out, or take its [fisher]")
    section = chosen.section()
    section["parents"] = parents_of(studies, task, section["kind"])
    return study_file.model_copy(update={"method": MethodSection.model_validate(section)})


def _analysed_alike(one: FisherSection, other: FisherSection) -> bool:
    """Whether methods that dampen do the same under both."""
    names = ("definition", "batch_size", "denominator")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _forgets(trial: ScoredTrial) -> bool:
    return not trial.estimated and trial.score.remembered < FORGETS and trial.score.retained > 0


def _plain(study: optuna.Study, record: StudyRecord, trial: ScoredTrial) -> dict[str, Any]:
    return {
        "trial": f"trial {trial.number} of {study.study_name}",
        "method": dict(record.method),
        "setting": dict(trial.setting),
        "seed": setting_seed(record, trial.setting),
        "cost": float(read_trial(trial.trial).get("cost") or 0.0),
    }
