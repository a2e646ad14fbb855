"""``summary.json``: what a run found, as plain JSON values, for other programs to read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssdtune.files import atomic_path
from ssdtune.report.view import StudyView
from ssdtune.samplers.recorded import recorded
from ssdtune.study.records import ScoredTrial

FORMAT = 1
"""Version of the summary's keys."""


def summary_of(view: StudyView, files: Mapping[str, Path | str] | None = None) -> dict[str, Any]:
    """The summary of a study.

    files : what the run has written, by role (``"checkpoint"``, ``"storage"``, ...).
    ``best`` is None where no trial evaluated in full is near; ``measures`` hold means by ``{set}_{measure}`` of the
    original model, the best trial and the oracle (empty where there is none), None where a value is not finite.
    """
    facts, rule = view.facts, view.facts.rule
    return {
        "format": FORMAT,
        "study": view.name,
        "task": facts.task,
        "trials": {"finished": view.counts.finished, "failed": view.counts.failed, "asked": facts.search.trials},
        "sampler": {"name": facts.search.sampler, "seed": facts.search.seed, "settings": facts.sampler},
        "score": {
            "kind": rule.kind,
            "quality": facts.quality,
            "retain_weight": rule.retain_weight,
            "min_retained": rule.min_retained,
            "q_retain": rule.q_retain,
            "q_forget": rule.q_forget,
            "floor": rule.floor,
            "floor_source": facts.floor_source,
            "untouched": view.untouched.value,
            "oracle": None if view.oracle is None else view.oracle.value,
        },
        "best": None if view.best is None else _trial(view.best),
        "measures": {label: _measures(view, label) for label in ("original", "best", "oracle")},
        "samples": dict(facts.counts),
        "inputs": dict(facts.identity),
        "versions": dict(facts.versions),
        "created": facts.created,
        "files": {role: str(path) for role, path in (files or {}).items()},
    }


def write_summary(view: StudyView, path: Path | str, files: Mapping[str, Path | str] | None = None) -> Path:
    """Write ``summary_of`` whole or not at all.

    Raises
    ------
    DataError : ``path`` cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(summary_of(view, files), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return Path(path)


def _measures(view: StudyView, label: str) -> dict[str, float | None]:
    return {name: _finite(row[label]) for name, row in view.measure_table().items() if label in row}


def _trial(item: ScoredTrial) -> dict[str, Any]:
    measured = recorded(item.trial)
    return {
        "trial": item.number,
        "alpha": item.setting.alpha,
        "lambda": item.setting.lam,
        "exponent": item.setting.exponent,
        "rho": measured.get("rho"),
        "kappa": measured.get("kappa"),
        "score": item.score.value,
        "raw_score": _finite(measured.get("raw_score")),
        "retained": item.score.retained,
        "remembered": item.score.remembered,
        "feasible": item.score.feasible,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
