"""What a study is measured against: the untouched model, the oracle if there is one, and the floor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ssdtune.errors import ConfigError, DataError
from ssdtune.objective.evaluation import Measures, evaluate
from ssdtune.objective.score import ScoreRule
from ssdtune.progress import Track, silent
from ssdtune.studyfile import ScoreSection
from ssdtune.task import Task, sample_ids

MIN_GAP = 0.05
"""Least q_forget(untouched) - q_forget(oracle) of a study: below it the model never learned what is to be forgotten."""


@dataclass(frozen=True)
class Baseline:
    """Measures of the untouched model and of the oracle, and the score rule that follows from them."""

    untouched: Measures
    oracle: Measures | None
    rule: ScoreRule
    floor_source: str

    @property
    def quality(self) -> str:
        """Name of the measure that is q."""
        return next(iter(self.untouched.values["retain"]))


def measure_baseline(task: Task, score: ScoreSection, *, track: Track = silent) -> Baseline:
    """Evaluate the untouched model and the oracle, and settle the floor.

    Raises
    ------
    DataError : the untouched model or the oracle gives non-finite output; the first sample is named.
    ConfigError : the floor asked for cannot be had, or there is nothing to forget.
    """
    untouched = evaluate(task, track=track)
    _refuse_non_finite(task, untouched, "the untouched model")
    oracle = None
    if task.oracle is not None:
        oracle = evaluate(replace(task, model=task.oracle), track=track)
        _refuse_non_finite(task, oracle, "the oracle")
        _check_gap(untouched.quality("forget"), oracle.quality("forget"))
    floor, source = _floor(task, score, untouched, oracle)
    rule = ScoreRule(
        q_retain=untouched.quality("retain"),
        q_forget=untouched.quality("forget"),
        floor=floor,
        retain_weight=score.retain_weight,
        min_retained=score.min_retained,
        kind=score.kind,
    )
    return Baseline(untouched, oracle, rule, source)


def _refuse_non_finite(task: Task, measures: Measures, which: str) -> None:
    for name, columns in measures.values.items():
        bad = np.flatnonzero(~np.isfinite(np.asarray(next(iter(columns.values())))))
        if bad.size:
            where = f"{sample_ids(task.scored_sets[name])[bad[0]]} of the {name} set"
            what = f"{which} gives non-finite output for {bad.size} of its samples"
            raise DataError(what, where, "look at that sample, or leave it out")


def _check_gap(original: float, oracle: float) -> None:
    if original - oracle < MIN_GAP:
        raise ConfigError(
            f"nothing to forget: the model's forget quality {original:.4f} is not {MIN_GAP} above the oracle's "
            f"{oracle:.4f}",
            "model.oracle",
            "check the forget set, or leave the oracle out to search all the same",
        )


def _floor(task: Task, score: ScoreSection, untouched: Measures, oracle: Measures | None) -> tuple[float, str]:
    """(floor, its source); ``auto`` takes the best available of oracle, the task's own sources, the task's number."""
    if not isinstance(score.floor, str):
        return float(score.floor), "number"
    offers: dict[str, float] = {}
    if oracle is not None:
        offers["oracle"] = oracle.quality("forget")
    for name, source in task.floor_sources.items():
        offers[name] = float(source(untouched.quality("retain")))
    if task.floor is not None:
        offers["number"] = float(task.floor)
    if score.kind == "raw" and not offers:
        offers["none"] = 0.0  # the raw score has no floor; remembered is then recorded against zero
    wanted = next(iter(offers), "auto") if score.floor == "auto" else score.floor
    if wanted not in offers:
        have = f"this task offers {', '.join(offers)}" if offers else "this task offers none"
        todo = f"{have}; give an oracle, clean targets, or a number in [0, 1]"
        raise ConfigError(f"no floor '{wanted}'", "score.floor", todo)
    return offers[wanted], wanted
