"""``summary.json``: what a run found, as plain JSON values, for other programs to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssdtune.objective.outcome import as_means
from ssdtune.report.ssd_plane import ssd_notes
from ssdtune.report.view import StudyView
from ssdtune.report.volumes import retained_interval
from ssdtune.study.record import read_trial
from ssdtune.study.trials import ScoredTrial

FORMAT = 2
"""Version of the summary's keys."""


def summary_of(view: StudyView, files: Mapping[str, Path | str] | None = None) -> dict[str, Any]:
    """The summary of a study.

    files : what the run has written, by role (``"checkpoint"``, ``"storage"``, ...).
    ``best`` has its knobs by name, also together as ``setting``; it is None where no trial evaluated in full is
    near. ``measures`` hold means by ``{set}_{measure}`` of the original model, the best trial and the oracle (empty
    where there is none), None where a value is not finite.
    """
    record, rule = view.record, view.record.rule
    return {
        "format": FORMAT,
        "study": view.name,
        "task": record.task,
        "trials": {"finished": view.counts.finished, "failed": view.counts.failed, "asked": record.search.trials},
        "method": dict(record.method),
        "sampler": {"name": record.search.sampler, "seed": record.search.seed, "settings": record.sampler},
        "score": {
            "kind": rule.kind,
            "quality": record.quality,
            "retain_weight": rule.retain_weight,
            "min_retained": rule.min_retained,
            "q_retain": rule.q_retain,
            "q_forget": rule.q_forget,
            "floor": rule.floor,
            "floor_source": record.floor_source,
            "untouched": view.untouched.value,
            "oracle": None if view.oracle is None else view.oracle.value,
        },
        "best": None if view.best is None else _trial(view.best) | {"retained_interval": _interval(view)},
        "measures": {label: _measures(view, label) for label in ("original", "best", "oracle")},
        "samples": dict(record.counts),
        "inputs": dict(record.identity),
        "versions": dict(record.versions),
        "created": record.created,
        "files": {role: str(path) for role, path in (files or {}).items()},
    }


def _measures(view: StudyView, label: str) -> dict[str, float | None]:
    return as_means({name: row[label] for name, row in view.measure_table().items() if label in row})


def _interval(view: StudyView) -> dict[str, Any] | None:
    found = retained_interval(view)
    return None if found is None else found.document()


def _trial(item: ScoredTrial) -> dict[str, Any]:
    return {
        **item.setting,
        **ssd_notes(item),
        "trial": item.number,
        "setting": dict(item.setting),
        "score": item.score.value,
        "raw_score": read_trial(item.trial).get("raw_score"),
        "retained": item.score.retained,
        "remembered": item.score.remembered,
        "feasible": item.score.feasible,
    }
