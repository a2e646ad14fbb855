"""Making studies: the baseline is measured, then the study is written whole, with all it needs to be run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from ssdtune.errors import ConfigError, StorageError
from ssdtune.objective.baseline import measure_baseline
from ssdtune.objective.order import stratified_order
from ssdtune.objective.outcome import as_means
from ssdtune.progress import Track, silent
from ssdtune.samplers.table import choose_sampler
from ssdtune.study.record import StudyRecord, write_record
from ssdtune.study.storage import duplicate, storage_errors, study_names
from ssdtune.study.trials import FINISHED
from ssdtune.studyfile import FisherSection, MethodSection, ScoreSection, SearchSection, StudyFile
from ssdtune.task import Task, sample_ids
from ssdtune.unlearning.method import Knob, Method
from ssdtune.unlearning.methods import Chosen, choose_method

_TAKEN = (*FINISHED, TrialState.RUNNING, TrialState.WAITING)


def create_study(
    task: Task,
    storage: optuna.storages.BaseStorage | None = None,
    *,
    name: str | None = None,
    method: Mapping[str, Any] | None = None,
    search: SearchSection | None = None,
    score: ScoreSection | None = None,
    fisher: FisherSection | None = None,
    study_file: StudyFile | None = None,
    published: bool = False,
    track: Track = silent,
) -> optuna.Study:
    """Measure the untouched model (and the oracle), then write a new study with its full provenance.

    storage : where to keep it; None keeps it in memory. ``study_file`` gives the sections that are not given
    themselves and is stored, so that the command line can load the task again. published : as ``begin_study``.

    Raises
    ------
    StorageError : the name is taken, or the storage cannot be written.
    ConfigError, DataError : no such method, sampler or floor, nothing to forget, or the untouched model is not finite.
    """
    name = name or (study_file.name if study_file else task.name)
    if storage is not None and name in study_names(storage):
        raise duplicate(name)
    record = measure_record(
        task,
        method=method,
        search=search,
        score=score,
        fisher=fisher,
        study_file=study_file,
        track=track,
    )
    return (begin_study if published else write_study)(name, record, storage)


def begin_study(name: str, record: StudyRecord, storage: optuna.storages.BaseStorage | None) -> optuna.Study:
    """Write a study whose first trials are the method's published settings, but with a sampler that has a prior.

    Raises
    ------
    StorageError : as ``write_study``.
    """
    study = write_study(name, record, storage)
    if not choose_sampler(record.search.sampler).uses_prior:
        with storage_errors():
            enqueue_published(study, record.chosen, record.knobs)
    return study


def enqueue_published(study: optuna.Study, chosen: Chosen, knobs: Sequence[Knob]) -> None:
    """Let a study begin with the method's published settings, also with those whose trials were interrupted."""
    taken = [
        trial.system_attrs.get("fixed_params", trial.params)
        for trial in study.get_trials(deepcopy=False)
        if trial.state in _TAKEN
    ]
    for setting in chosen.method.published(chosen.options):
        clipped = {knob.name: knob.clip(setting[knob.name]) for knob in knobs}
        if clipped and clipped not in taken:
            study.enqueue_trial(clipped)
            taken.append(clipped)


def measure_record(
    task: Task,
    *,
    method: Mapping[str, Any] | None = None,
    search: SearchSection | None = None,
    score: ScoreSection | None = None,
    fisher: FisherSection | None = None,
    study_file: StudyFile | None = None,
    track: Track = silent,
) -> StudyRecord:
    """Everything that a new study of the task records, measured; nothing is written.

    Raises
    ------
    ConfigError, DataError : as ``create_study``.
    """
    if method is None:
        method = (study_file.method if study_file else MethodSection()).model_dump(mode="json")
    chosen = choose_method(method)
    check_needs(task, chosen)
    search = search or (study_file.search if study_file else SearchSection())
    if search.sampler == "auto":
        search = search.model_copy(update={"sampler": chosen.method.sampler})
    score = score or (study_file.score if study_file else ScoreSection())
    fisher = fisher or (study_file.fisher if study_file else FisherSection())
    check_suits(search.sampler, chosen.method)
    knobs = chosen.method.knobs(chosen.options)
    if not knobs:  # every trial would be the same one
        search = search.model_copy(update={"trials": 1})
    choice = choose_sampler(search.sampler)
    baseline = measure_baseline(task, score, track=track)
    scored = {name: len(samples) for name, samples in task.scored_sets.items()}
    section = MethodSection.model_validate(chosen.section())
    sections = {"method": section, "search": search, "score": score, "fisher": fisher}
    return StudyRecord(
        task=task.name,
        quality=baseline.quality,
        method=chosen.section(),
        knobs=knobs,
        search=search,
        fisher=fisher,
        rule=baseline.rule,
        floor_source=baseline.floor_source,
        baseline=as_means(baseline.untouched.summary()),
        oracle=as_means(baseline.oracle.summary()) if baseline.oracle else None,
        identity=task.identity,
        counts={"fisher.retain": len(task.retain), "fisher.forget": len(task.forget), **scored},
        sampler=choice.settings,
        phi=task.phi,
        known_share=task.known_share,
        study_file=study_file.model_copy(update=sections).to_json() if study_file else None,
        ids={name: sample_ids(samples) for name, samples in task.scored_sets.items()},
        order={name: stratified_order(samples, name).tolist() for name, samples in task.scored_sets.items()},
        untouched=baseline.untouched.values,
    )


def check_needs(task: Task, chosen: Chosen) -> None:
    """Refuse a method that the task lacks something for; raises ConfigError."""
    lacking = chosen.method.needs(task, chosen.options)
    if lacking is not None:
        raise ConfigError(f"method '{chosen.method.name}' lacks {lacking}", task.name, "choose another")


def check_suits(sampler: str, method: Method) -> None:
    """Refuse a sampler made for other knobs than the method's; raises ConfigError."""
    if choose_sampler(sampler).of_the_plane and method.sampler != sampler:
        what = f"sampler '{sampler}' is made for the knobs of ssd, not for those of '{method.name}'"
        raise ConfigError(what, "search.sampler", "choose auto, ei or tpe")


def write_study(name: str, record: StudyRecord, storage: optuna.storages.BaseStorage | None) -> optuna.Study:
    """Write a study whole or not at all.

    Raises
    ------
    StorageError : the name is taken, or the storage cannot be written.
    """
    with storage_errors():
        try:
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
        except optuna.exceptions.DuplicatedStudyError as reason:
            raise duplicate(name) from reason
        try:
            write_record(study, record)
        except BaseException:
            if storage is not None:
                optuna.delete_study(study_name=name, storage=storage)
            raise
    return study


def delete_study(name: str, storage: optuna.storages.BaseStorage) -> None:
    """Delete a study with all its trials.

    Raises
    ------
    StorageError : there is none of that name, or the storage cannot be written.
    """
    with storage_errors():
        try:
            optuna.delete_study(study_name=name, storage=storage)
        except KeyError as reason:
            raise StorageError(f"no study '{name}'", todo="see what is there: ssdtune study list") from reason
