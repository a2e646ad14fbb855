"""Reading what a study has recorded: finished trials, their scores under any weight, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import ConfigError
from ssdtune.score import Score, ScoreRule
from ssdtune.search.facts import StudyFacts, as_number, read_facts
from ssdtune.search.samplers import interrupted
from ssdtune.search.space import ALPHA, LAMBDA, Setting

NON_FINITE = "non_finite"


@dataclass(frozen=True)
class ScoredTrial:
    """A finished trial under some score rule."""

    trial: FrozenTrial
    score: Score
    setting: Setting

    @property
    def number(self) -> int:
        return self.trial.number


@dataclass(frozen=True)
class Counts:
    """Trials of a study: ``finished`` count towards its budget, ``failed`` had an error, ``interrupted`` did not."""

    finished: int
    running: int
    failed: int
    interrupted: int


def count_trials(study: optuna.Study) -> Counts:
    trials = study.get_trials(deepcopy=False)
    stopped = sum(interrupted(trial) for trial in trials)
    states = [trial.state for trial in trials]
    return Counts(
        finished=states.count(TrialState.COMPLETE),
        running=states.count(TrialState.RUNNING),
        failed=states.count(TrialState.FAIL) - stopped,
        interrupted=stopped,
    )


def scored_trials(study: optuna.Study, rule: ScoreRule | None = None) -> list[ScoredTrial]:
    """All finished trials in order, scored from their recorded measures under ``rule`` (None: the study's own)."""
    facts = read_facts(study)
    rule = rule or facts.rule
    return [
        ScoredTrial(
            trial=trial,
            score=rule(*recorded_qualities(facts, trial.user_attrs)),
            setting=Setting(trial.params[ALPHA], trial.params[LAMBDA], facts.search.exponent),
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]


def recorded_qualities(facts: StudyFacts, recorded: Mapping[str, Any]) -> tuple[float, float]:
    """(q_retain, q_forget) of a trial; NaN where any of its output was not finite."""
    if recorded.get(NON_FINITE):
        return math.nan, math.nan
    return facts.qualities(recorded)


def best_of(scored: list[ScoredTrial]) -> ScoredTrial | None:
    """The best feasible trial; without one, the trial that violates the constraint least; None of no trials.

    Equals ``study.best_trial`` wherever that is defined.
    """
    feasible = [item for item in scored if item.score.feasible]
    if feasible:
        return max(feasible, key=lambda item: item.score.value)
    return min(scored, key=lambda item: (item.score.violation, -item.score.value), default=None)


def find_trial(study: optuna.Study, number: int) -> ScoredTrial:
    """A finished trial by number.

    Raises
    ------
    ConfigError : there is none of that number.
    """
    scored = scored_trials(study)
    for item in scored:
        if item.number == number:
            return item
    have = f"{scored[0].number} to {scored[-1].number}" if scored else "none yet"
    raise ConfigError(f"no finished trial {number}", f"study '{study.study_name}'", f"finished trials: {have}")


def trial_record(item: ScoredTrial) -> dict[str, Any]:
    """One trial as plain JSON values: number, parameters, score, and everything recorded."""
    trial = item.trial
    return {
        "number": trial.number,
        **trial.params,
        "score": item.score.value,
        "retained": item.score.retained,
        "remembered": item.score.remembered,
        "feasible": item.score.feasible,
        "violation": item.score.violation,
        "recorded": dict(trial.user_attrs),
    }


def measures_of(item: ScoredTrial, facts: StudyFacts) -> dict[str, float]:
    """The recorded measures of a trial under the names of the baseline; NaN where not finite."""
    return {name: as_number(item.trial.user_attrs.get(name)) for name in facts.baseline}
