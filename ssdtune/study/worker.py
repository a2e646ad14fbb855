"""What there is for a worker to do: the studies of a storage that still have trials left."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import optuna

from ssdtune.study.lost import release_lost_trials
from ssdtune.study.record import is_ours, read_record
from ssdtune.study.storage import storage_errors, study_names
from ssdtune.study.trials import count_trials


def waiting_studies(storage: optuna.storages.BaseStorage, names: Collection[str] = ()) -> Iterator[optuna.Study]:
    """Studies made by ssdtune with trials that nobody has begun, oldest first; only those of ``names``, if any.

    Each is looked at only when its turn comes: other processes may make, run and delete studies meanwhile.

    Raises
    ------
    StorageError : the storage failed.
    """
    for name in study_names(storage):
        if not names or name in names:
            study = _find(name, storage)
            if study is not None and _has_trials_left(study):
                yield study


def _find(name: str, storage: optuna.storages.BaseStorage) -> optuna.Study | None:
    """The study, if it is still there and one of ssdtune's."""
    with storage_errors():
        try:
            study = optuna.load_study(study_name=name, storage=storage)
            return study if is_ours(study.user_attrs) else None
        except KeyError:
            return None


def _has_trials_left(study: optuna.Study) -> bool:
    with storage_errors():
        release_lost_trials(study)
        counts = count_trials(study)
    return counts.finished + counts.running < read_record(study).search.trials
