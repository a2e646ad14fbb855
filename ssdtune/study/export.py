"""A study as plain data: one JSON document, or one CSV row a trial."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ssdtune.errors import ConfigError
from ssdtune.files import atomic_path
from ssdtune.study.audit import read_audits
from ssdtune.study.prior import read_prior
from ssdtune.study.record import read_record, read_trial

_FIRST = ("retained", "remembered", "feasible", "raw_score", "rho", "kappa")


def export_study(study: optuna.Study, path: Path | str) -> Path:
    """Write a study to ``path``, as JSON or CSV by its suffix, whole or not at all.

    Raises ConfigError: the suffix is neither ``.json`` nor ``.csv``. DataError : the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise ConfigError("cannot tell the format", path, "name a .json or a .csv file")
    document = study_document(study)
    with atomic_path(path) as temporary:
        _WRITERS[path.suffix](document, temporary)
    return path


def study_document(study: optuna.Study) -> dict[str, Any]:
    """A study as plain JSON values: ``name``, its record, its ``prior``, ``trials``, and which are ``evaluated``."""
    record = read_record(study).to_attributes()
    kept = read_prior(study)
    prior = {"prior": {**kept.summary(), **kept.prior.to_json()}} if kept is not None else {}
    audits = {str(number): found.to_json() for number, found in read_audits(study).items()}
    evaluated = {"evaluated": audits} if audits else {}
    trials = [trial_row(trial) for trial in study.get_trials(deepcopy=False)]
    return {"name": study.study_name, **record, **prior, **evaluated, "trials": trials}


def trial_row(trial: FrozenTrial) -> dict[str, Any]:
    """One trial, finished or not, flat: number, state, times, parameters, score, constraint, everything recorded."""
    times = {"started": trial.datetime_start, "finished": trial.datetime_complete}
    values = read_trial(trial)
    first = {name: values[name] for name in _FIRST if name in values}
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        **{name: time.isoformat(timespec="milliseconds") if time else None for name, time in times.items()},
        **trial.params,
        "score": trial.value,
        **{f"violation_{name}": value for name, value in trial.constraints.items()},
        **first,
        **values,
    }


def _write_json(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def _write_csv(document: dict[str, Any], path: Path) -> None:
    columns = list(dict.fromkeys(name for row in document["trials"] for name in row))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in document["trials"])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return "" if value is None else value


_WRITERS = {".json": _write_json, ".csv": _write_csv}
