"""Studies of one task on one storage that are to be compared: opened together, and gone on with if they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import optuna

from ssdtune.errors import StorageError
from ssdtune.progress import Track
from ssdtune.study.create import check_suits, write_study
from ssdtune.study.lost import release_lost_trials
from ssdtune.study.record import StudyRecord, package_versions, read_baseline, read_record
from ssdtune.study.storage import load_study, study_names
from ssdtune.studyfile import StudyFile

T = TypeVar("T")
E = TypeVar("E", bound="Entry")


class Entry(Protocol):
    """One study of a series."""

    def study_name(self, series: str) -> str:
        """Name of its study."""

    def record(self, common: StudyRecord) -> StudyRecord:
        """Its record, from that of any other study of the series."""

    def __hash__(self) -> int: ...


def open_series(
    name: str,
    entries: Sequence[E],
    storage: optuna.storages.BaseStorage,
    measure: Callable[[], StudyRecord],
    study_file: StudyFile | None = None,
) -> dict[E, optuna.Study]:
    """The studies of a series: those that are there, and new ones for the others.

    measure : gives the record of a new study, see ``measure_record``; asked only if no study is there yet.
    study_file : what the series is of; studies that are there must be of the same.

    Raises
    ------
    StorageError : a study of that name is no part of this series, or the storage cannot be written.
    """
    present = set(study_names(storage))
    studies = {
        entry: load_study(entry.study_name(name), storage) for entry in entries if entry.study_name(name) in present
    }
    common = _as_measured(next(iter(studies.values()))) if studies else measure()
    if study_file is not None:
        common = replace(common, study_file=study_file.to_json())
    records = {entry: entry.record(common) for entry in entries}
    for record in records.values():
        check_suits(record.search.sampler, record.chosen.method)
    for entry, study in studies.items():
        if _compared(read_record(study)) != _compared(records[entry]):
            raise StorageError(
                "the study is there already, made with other settings",
                study.study_name,
                "choose another --name, or delete it",
            )
        release_lost_trials(study)
    for entry, record in records.items():
        if entry not in studies:
            own = entry.study_name(name)
            file = record.study_file and {**record.study_file, "name": own}
            studies[entry] = write_study(own, replace(record, study_file=file), storage)
    return {entry: studies[entry] for entry in entries}


def advancing(ticks: Iterator[int], by: int = 1) -> Track:
    """A track that moves one bar on by so many ticks for every item taken."""

    def moved(items: Iterable[T], description: str, total: int) -> Iterator[T]:
        for item in items:
            yield item
            for _ in range(by):
                next(ticks, None)

    return moved


def with_sections(study_file: Mapping[str, Any] | None, **sections: Mapping[str, Any]) -> dict[str, Any] | None:
    """A study file with other values in some of its sections; None stays None."""
    if study_file is None:
        return None
    return {**study_file, **{name: {**study_file[name], **own} for name, own in sections.items()}}


def _as_measured(study: optuna.Study) -> StudyRecord:
    """The record of a study for one that is yet to be written, now and by this version."""
    baseline, record = read_baseline(study), read_record(study)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = replace(record, created=now, versions=package_versions())
    if baseline is None:
        return record
    return replace(record, ids=baseline.ids, order=baseline.order, untouched=baseline.columns)


def _compared(record: StudyRecord) -> dict[str, object]:
    """What has to be the same in a study that is there; the number of trials may grow."""
    file = with_sections(record.study_file, search={"trials": 1}) or {}
    return {
        "identity": dict(record.identity),
        "rule": record.rule,
        "fisher": record.fisher,
        "method": record.chosen.section(),
        "knobs": record.knobs,
        "search": record.search.model_copy(update={"trials": 1}),
        "study_file": {key: value for key, value in file.items() if key not in ("name", "folder")},
    }
