"""What a study and its trials hold: every name, how it is written and how it is read, with a version.

A study's user attributes are readable settings, baseline and provenance; large values lie apart (``study.large``). A
trial has ``origin`` as it begins, ``measures`` as it ends, and the qualities of its slices among its system attributes.

Version 1 (without a number) had SSD's box in ``search``, and large values and single measures as user attributes.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from platform import python_version
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import StorageError
from ssdtune.objective.outcome import Columns, Outcome
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.plane.packing import pack, unpack
from ssdtune.samplers.outputs import MEASURES, NON_FINITE, REMEMBERED, RETAINED, UNCLIPPED, flat
from ssdtune.study.large import from_pieces, in_pieces, read_large, storage_of, trial_id_of, write_large
from ssdtune.studyfile import FisherSection, SearchSection, as_stored
from ssdtune.unlearning.method import Knob, Setting
from ssdtune.unlearning.methods import Chosen, choose_method

VERSION = 2

Measured = Mapping[str, float | None]
"""Mean measures as ``{set}_{measure}``; None where a value is not finite (JSON has no NaN)."""

PRIOR, VIEW, EVALUATION, BASELINE = "prior", "spectrum", "evaluation", "baseline_slices"
PREPARATION, PREPARATION_SECONDS = "preparation", "preparation_seconds"
"""User attributes of a study beside those of ``StudyRecord``: three headers of large values, how it was run, and what
its method did once, in slice passes and seconds."""

ORIGIN, ERROR = "origin", "error"
"""User attributes of a trial beside ``MEASURES``: who runs it and what seeds it, and why it failed."""

WORKER, SEED_NUMBER = "worker", "seed_number"
CONSTRAINT = "min_retained"

_SLICES = "ssdtune:slices"
_COMPLETE = "complete"
_PACKAGES = ("ssdtune", "torch", "fastmri", "optuna", "numpy", "scipy", "h5py")


@dataclass(frozen=True)
class StudyRecord:
    """Everything a study needs to be run, resumed, re-scored and applied.

    task : the task's name. quality : the measure that is q, e.g. ``"ssim"``. method : name and options of the method.
    knobs : what is searched. search, fisher : the study's settings. rule : the score with its numbers. floor_source :
    where ``rule.floor`` comes from. baseline, oracle : measures of the untouched model and of the oracle. identity :
    content hashes of model, loss and data. counts : samples in each set, ``fisher.*`` those given to the method and
    the others those scored. sampler : the sampler's settings in words. study_file : the resolved study file, None for
    a study made from Python. ids, order, untouched : names of the slices, their numbers in scoring order, and the
    baseline slice by slice, in a record that is yet to be written; ``read_baseline`` reads them.
    """

    task: str
    quality: str
    method: Mapping[str, Any]
    knobs: tuple[Knob, ...]
    search: SearchSection
    fisher: FisherSection
    rule: ScoreRule
    floor_source: str
    baseline: Measured
    identity: Mapping[str, str]
    sampler: str
    phi: float
    known_share: float
    counts: Mapping[str, int] = field(default_factory=dict)
    oracle: Measured | None = None
    study_file: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: package_versions())
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    version: int = VERSION
    ids: Mapping[str, list[str]] | None = field(default=None, compare=False, repr=False)
    order: Mapping[str, list[int]] | None = field(default=None, compare=False, repr=False)
    untouched: Columns | None = field(default=None, compare=False, repr=False)

    @cached_property
    def chosen(self) -> Chosen:
        """The method with its options; raises ConfigError where it is not installed."""
        return choose_method(self.method, f"a study of task '{self.task}'")

    def to_attributes(self) -> dict[str, Any]:
        """User attributes; the last one marks the study as completely written."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain |= {
            "method": dict(self.method),
            "knobs": [asdict(knob) for knob in self.knobs],
            "search": self.search.model_dump(mode="json", by_alias=True),
            "fisher": self.fisher.model_dump(mode="json", by_alias=True),
            "score": asdict(self.rule),
        }
        del plain["rule"], plain["untouched"], plain["ids"], plain["order"]
        return {name: value for name, value in plain.items() if value is not None} | {_COMPLETE: True}

    def qualities(self, values: Mapping[str, Any]) -> tuple[float, float]:
        """(q_retain, q_forget) of a trial's measures; NaN where one is missing, or any of its output was not finite."""
        if values.get(NON_FINITE):
            return math.nan, math.nan
        retain, forget = (as_number(values.get(f"{name}_{self.quality}")) for name in ("retain", "forget"))
        return retain, forget


def write_record(study: optuna.Study, record: StudyRecord) -> None:
    """Store the record in a new study."""
    if record.untouched is not None:
        plain = {name: {m: c.tolist() for m, c in columns.items()} for name, columns in record.untouched.items()}
        slices = {"columns": plain, "ids": record.ids, "order": record.order}
        write_large(study, BASELINE, slices, {"of": "the untouched model's slices"})
    for name, value in record.to_attributes().items():
        study.set_user_attr(name, value)


def is_ours(study_attributes: Mapping[str, Any]) -> bool:
    """Whether the study was made, and made completely, by ssdtune."""
    return bool(study_attributes.get(_COMPLETE)) and "score" in study_attributes


def read_record(study: optuna.Study) -> StudyRecord:
    """The record of a study.

    Raises
    ------
    StorageError : the study was not made by ssdtune, its creation was cut short, or a newer ssdtune made it.
    """
    stored = study.user_attrs
    if not is_ours(stored):
        raise StorageError(
            "not a study made by ssdtune, or its creation was cut short",
            study.study_name,
            f"choose another, or, if it was cut short: ssdtune study delete {shlex.quote(study.study_name)}",
        )
    if stored.get("version", 1) > VERSION:
        raise StorageError("made by a newer ssdtune", study.study_name, "install that one: pip install -U ssdtune")
    stored = as_stored(stored)
    if isinstance(stored.get("study_file"), Mapping):
        stored["study_file"] = as_stored(stored["study_file"])
    method = stored.get("method", {"name": "ssd"})
    knobs = [Knob(**knob) for knob in stored["knobs"]] if "knobs" in stored else _knobs_of(method)
    plain = {name: stored[name] for name in StudyRecord.__dataclass_fields__ if name in stored}
    plain |= {
        "method": method,
        "knobs": tuple(knobs),
        "search": SearchSection.model_validate(stored["search"]),
        "fisher": FisherSection.model_validate(stored["fisher"]),
        "rule": ScoreRule(**stored["score"]),
        "version": stored.get("version", 1),
    }
    return StudyRecord(**plain)


def _knobs_of(method: Mapping[str, Any]) -> tuple[Knob, ...]:
    chosen = choose_method(method)
    return chosen.method.knobs(chosen.options)


@dataclass(frozen=True)
class Baseline:
    """The untouched model slice by slice, the slices' names (``volume:slice``), and their numbers in scoring order.

    Names and order are None before version 2.
    """

    columns: Columns
    ids: Mapping[str, list[str]] | None
    order: Mapping[str, list[int]] | None


def read_baseline(study: optuna.Study) -> Baseline | None:
    """The baseline slice by slice; None in a study that was made before it was kept."""
    kept = read_large(study, BASELINE)
    if kept is None:
        return None
    columns = kept[1].get("columns", kept[1])
    arrays = {name: {m: np.array(c, float) for m, c in each.items()} for name, each in columns.items()}
    names = kept[1] if "columns" in kept[1] else {}
    return Baseline(arrays, names.get("ids"), names.get("order"))


def read_trial(trial: FrozenTrial) -> dict[str, Any]:
    """Everything recorded of a trial by name, flat, as plain JSON values."""
    values = flat(trial.user_attrs)
    return {**values.pop(ORIGIN, {}), **values}


def origin_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """Who runs a trial and what seeds it, as far as it has recorded that."""
    found: Mapping[str, Any] = trial.user_attrs.get(ORIGIN, trial.user_attrs)
    return found


def interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial ended because its process was stopped, not because its evaluation failed."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def setting_of(trial: FrozenTrial, record: StudyRecord) -> Setting:
    """The value of each knob that the trial has: all, unless its method chose among them."""
    return {knob.name: trial.params[knob.name] for knob in record.knobs if knob.name in trial.params}


def write_outcome(study: optuna.Study, trial: optuna.Trial, record: StudyRecord, outcome: Outcome) -> Score:
    """Store what a trial came to; returns its score. One commit each for measures, slices and constraint."""
    values = outcome.values()
    qualities = record.qualities(values)
    score, raw = record.rule(*qualities), record.rule.raw(*qualities)
    attributes = {
        "feasible": score.feasible,
        RETAINED: score.retained,
        REMEMBERED: score.remembered,
        "raw_score": raw.value,
        **{name + UNCLIPPED: value for name, value in record.rule.unclipped(*qualities).items()},
        **values,
    }
    trial.set_user_attr(MEASURES, attributes)
    if outcome.columns:
        storage, trial_id = storage_of(study), trial_id_of(trial)
        for name, value in in_pieces(_SLICES, {name: pack(column) for name, column in outcome.columns.items()}).items():
            storage.set_trial_system_attr(trial_id, name, value)
    trial.set_constraint(CONSTRAINT, score.violation)
    return score


def read_columns(trial: FrozenTrial) -> dict[str, np.ndarray]:
    """Quality of the measured slices by set, in scoring order; none before version 2."""
    packed = from_pieces(_SLICES, trial.system_attrs)
    return {name: np.asarray(unpack(text), float) for name, text in packed.items()}


def as_number(value: Any) -> float:
    """A recorded value as a float; NaN for None."""
    return math.nan if value is None else float(value)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    versions = {"python": python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
