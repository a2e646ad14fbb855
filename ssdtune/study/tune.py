"""``ssdtune.tune``: the whole search in one call, for any task made in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna
from torch import Tensor

from ssdtune.errors import ConfigError
from ssdtune.progress import Track, silent
from ssdtune.study.create import create_study
from ssdtune.study.record import StudyRecord, read_record
from ssdtune.study.run import check_inputs, run_study, setting_seed
from ssdtune.study.storage import open_storage
from ssdtune.study.trials import best_to_apply
from ssdtune.studyfile import DEFAULT_METHOD, ScoreSection, SearchSection
from ssdtune.task import Task
from ssdtune.unlearning.method import Unlearner, run

if TYPE_CHECKING:
    from ssdtune.fisher.result import FisherAnalysis


def tune(
    task: Task,
    trials: int = 30,
    *,
    method: str | Mapping[str, Any] = DEFAULT_METHOD,
    sampler: str = "auto",
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    seed: int = 0,
    retain_weight: float = 0.2,
    min_retained: float = 0.95,
    analysis: FisherAnalysis | None = None,
    track: Track = silent,
) -> optuna.Study:
    """Search the knobs of a method for a task and return the finished Optuna study.

    ``study.best_trial`` is the best; as for any Optuna study it raises ValueError if there is none (where no trial came
    near being feasible and better than the untouched model, all were stopped early). trials : finished ones in the end.
    method : its name, or the ``[method]`` section of a study file as a mapping, with ``name``. storage : a storage URL
    or an Optuna storage; None keeps the study in memory. seed : of the search. retain_weight, min_retained : the goal,
    in [0, 1]. analysis : the task's Fisher analysis, computed where it is needed and not given. track : shows progress
    (``ssdtune.progress``), silent by default.

    Raises
    ------
    ConfigError : a value out of range, no such method or sampler, or nothing to forget.
    StorageError : the name is taken, or the storage cannot be written.
    """
    try:
        search = SearchSection.model_validate({"sampler": sampler, "trials": trials, "seed": seed})
        score = ScoreSection(retain_weight=retain_weight, min_retained=min_retained)
    except ValueError as reason:
        raise ConfigError(" ".join(str(reason).split()), "tune", "see its documentation") from reason
    section = {"name": method} if isinstance(method, str) else method
    kept = open_storage(storage, create=True) if isinstance(storage, str) else storage
    study = create_study(task, kept, name=name, method=section, search=search, score=score, published=True, track=track)
    run_study(study, task, prepare(read_record(study), task, analysis, track), track=track)
    return study


def prepare(
    record: StudyRecord, task: Task, analysis: FisherAnalysis | None = None, track: Track = silent
) -> Unlearner:
    """A study's method made ready for its task; the analysis is computed as the study has it, if the method asks."""

    def analyse() -> FisherAnalysis:
        from ssdtune.fisher.cache import analyse_as

        return analysis or analyse_as(task, record.fisher, track)

    chosen = record.chosen
    return chosen.method.prepare(task, chosen.options, analyse=analyse, track=track)


def unlearned_params(study: optuna.Study, task: Task, analysis: FisherAnalysis | None = None) -> dict[str, Tensor]:
    """The model's whole state dict with the parameters of a study's best feasible trial, for ``model.load_state_dict``.

    Names and shapes are those of the model (any), on its device.
    analysis : the task's Fisher analysis, computed where the method needs it and it is not given.

    Raises
    ------
    ConfigError : the study has no feasible trial, or all feasible ones were stopped early.
    DataError : model or data are not those that the study was made with.
    """
    best, record = best_to_apply(study, "run more trials, or ask for less"), read_record(study)
    check_inputs(record, task)
    unlearner = prepare(record, task, analysis)
    return task.state_dict(run(unlearner, best.setting, setting_seed(record, best.setting)).params)
