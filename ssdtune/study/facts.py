"""What a study was made with, kept in it as user attributes of plain JSON values: settings, baseline, provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from platform import python_version
from typing import Any

import numpy as np
import optuna

from ssdtune.errors import StorageError
from ssdtune.objective.score import ScoreRule
from ssdtune.study.packed import read_packed, write_packed
from ssdtune.studyfile import FisherSection, SearchSection

Measured = Mapping[str, float | None]
"""Mean measures as ``{set}_{measure}``; None where a value is not finite (JSON has no NaN)."""

_PACKAGES = ("ssdtune", "torch", "fastmri", "optuna", "numpy", "scipy", "h5py")
_COMPLETE = "complete"
_SLICES = "baseline_slices"

Columns = Mapping[str, Mapping[str, np.ndarray]]
"""Measures of every slice, ``columns[set][measure]`` (n,) in the set's own order."""


@dataclass(frozen=True)
class StudyFacts:
    """Everything a study needs to be run, resumed, re-scored and applied.

    task : the task's name. quality : the measure that is q, e.g. ``"ssim"``. search, fisher : the study's settings.
    rule : the score with its numbers. floor_source : where ``rule.floor`` comes from. baseline, oracle : measures of
    the untouched model and of the oracle. identity : content hashes of model, loss and data. counts : samples in each
    set, ``fisher.*`` those given to SSD and the others those scored. sampler : the sampler's settings in words.
    study_file : the resolved study file, None for a study made from Python. untouched : the baseline slice by slice,
    in facts that are yet to be written; ``read_untouched`` reads it.
    """

    task: str
    quality: str
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
    untouched: Columns | None = field(default=None, compare=False, repr=False)

    def qualities(self, measured: Mapping[str, Any]) -> tuple[float, float]:
        """(q_retain, q_forget) of recorded measures; NaN where a quality is missing or not finite."""
        retain, forget = (as_number(measured.get(f"{name}_{self.quality}")) for name in ("retain", "forget"))
        return retain, forget

    def to_attributes(self) -> dict[str, Any]:
        """User attributes; the last one marks the study as completely written."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain |= {
            "search": self.search.model_dump(mode="json", by_alias=True),
            "fisher": self.fisher.model_dump(mode="json", by_alias=True),
            "score": asdict(self.rule),
        }
        del plain["rule"], plain["untouched"]
        return {name: value for name, value in plain.items() if value is not None} | {_COMPLETE: True}


def write_facts(study: optuna.Study, facts: StudyFacts) -> None:
    """Store the facts in a new study."""
    if facts.untouched is not None:
        plain = {name: {m: c.tolist() for m, c in columns.items()} for name, columns in facts.untouched.items()}
        write_packed(study, _SLICES, plain, {})
    for name, value in facts.to_attributes().items():
        study.set_user_attr(name, value)


def is_ours(study_attributes: Mapping[str, Any]) -> bool:
    """Whether the study was made, and made completely, by ssdtune."""
    return bool(study_attributes.get(_COMPLETE)) and "score" in study_attributes


def read_facts(study: optuna.Study) -> StudyFacts:
    """The facts of a study.

    Raises
    ------
    StorageError : the study was not made by ssdtune, or its creation was cut short.
    """
    stored = study.user_attrs
    if not is_ours(stored):
        raise StorageError(
            "not a study made by ssdtune, or its creation was cut short",
            study.study_name,
            f"choose another, or, if it was cut short: ssdtune study delete {study.study_name}",
        )
    plain = {name: stored[name] for name in StudyFacts.__dataclass_fields__ if name in stored}
    plain |= {
        "search": SearchSection.model_validate(stored["search"]),
        "fisher": FisherSection.model_validate(stored["fisher"]),
        "rule": ScoreRule(**stored["score"]),
    }
    return StudyFacts(**plain)


def read_untouched(study: optuna.Study) -> Columns | None:
    """The baseline slice by slice; None in a study that was made before it was kept."""
    plain = read_packed(study.user_attrs, _SLICES)
    if plain is None:
        return None
    return {name: {m: np.array(c, float) for m, c in columns.items()} for name, columns in plain.items()}


def as_number(value: Any) -> float:
    """A recorded value as a float; NaN for None."""
    return math.nan if value is None else float(value)


def as_recorded(measured: Mapping[str, float]) -> dict[str, float | None]:
    """Measures as plain JSON values."""
    return {name: float(value) if math.isfinite(value) else None for name, value in measured.items()}


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    versions = {"python": python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
