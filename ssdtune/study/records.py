"""Reading what a study has recorded: finished trials, their scores under any weight, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import ConfigError
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.samplers.recorded import NON_FINITE, recorded
from ssdtune.samplers.space import ALPHA, LAMBDA, Setting
from ssdtune.samplers.table import interrupted
from ssdtune.study.facts import StudyFacts, as_number, read_facts

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count towards the budget: evaluated in full, or stopped early with an estimate."""


@dataclass(frozen=True)
class ScoredTrial:
    """A finished trial under some score rule; ``estimated`` if it was stopped early and its score is an estimate."""

    trial: FrozenTrial
    score: Score
    setting: Setting

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def estimated(self) -> bool:
        return self.trial.state == TrialState.PRUNED


@dataclass(frozen=True)
class Counts:
    """Trials of a study: ``finished`` count towards its budget, ``failed`` had an error, ``interrupted`` did not."""

    finished: int
    running: int
    failed: int
    interrupted: int


def count_trials(study: optuna.Study) -> Counts:
    return counts_of(study.get_trials(deepcopy=False))


def counts_of(trials: Sequence[FrozenTrial]) -> Counts:
    stopped = sum(interrupted(trial) for trial in trials)
    states = [trial.state for trial in trials]
    return Counts(
        finished=sum(state in FINISHED for state in states),
        running=states.count(TrialState.RUNNING),
        failed=states.count(TrialState.FAIL) - stopped,
        interrupted=stopped,
    )


def scored_trials(
    study: optuna.Study, rule: ScoreRule | None = None, facts: StudyFacts | None = None
) -> list[ScoredTrial]:
    """All finished trials in order, scored from their recorded measures under ``rule`` (None: the study's own).

    ``facts`` are the study's, if they have been read already.
    """
    facts = facts or read_facts(study)
    return score_trials(study.get_trials(deepcopy=False, states=FINISHED), facts, rule or facts.rule)


def score_trials(trials: Iterable[FrozenTrial], facts: StudyFacts, rule: ScoreRule) -> list[ScoredTrial]:
    """The finished ones among some trials of a study, scored from their recorded measures."""
    return [
        ScoredTrial(
            trial=trial,
            score=rule(*recorded_qualities(facts, recorded(trial))),
            setting=Setting(trial.params[ALPHA], trial.params[LAMBDA], facts.search.exponent),
        )
        for trial in trials
        if trial.state in FINISHED
    ]


def recorded_qualities(facts: StudyFacts, measured: Mapping[str, Any]) -> tuple[float, float]:
    """(q_retain, q_forget) of a trial's measures; NaN where any of its output was not finite."""
    if measured.get(NON_FINITE):
        return math.nan, math.nan
    return facts.qualities(measured)


def leading(scored: list[ScoredTrial]) -> ScoredTrial | None:
    """The best feasible trial that was evaluated in full; without one, the nearest to it, perhaps by its estimate.

    All feasible trials are estimates where none came near being better than the untouched model. None of no trials.
    """
    full = [item for item in scored if item.score.feasible and not item.estimated]
    if full:
        return max(full, key=lambda item: item.score.value)
    return min(scored, key=lambda item: (max(item.score.violation, 0.0), -item.score.value), default=None)


def best_of(scored: list[ScoredTrial]) -> ScoredTrial | None:
    """The leading trial, if it was evaluated in full. Equals ``study.best_trial`` wherever that is feasible."""
    found = leading(scored)
    return None if found is None or found.estimated else found


def best_to_apply(study: optuna.Study, todo: str) -> ScoredTrial:
    """The best feasible trial of a study.

    Raises
    ------
    ConfigError : there is none, or all were stopped early; ``todo`` then says what to do.
    """
    found = leading(scored_trials(study))
    if found is None or not found.score.feasible:
        raise ConfigError("no feasible trial", f"study '{study.study_name}'", todo)
    if found.estimated:
        what = "no trial is better than the untouched model: those that are feasible were stopped early"
        raise ConfigError(what, f"study '{study.study_name}'", todo)
    return found


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
        "estimated": item.estimated,
        "recorded": recorded(trial),
    }


def measures_of(item: ScoredTrial, facts: StudyFacts) -> dict[str, float]:
    """The recorded measures of a trial under the names of the baseline; NaN where not finite."""
    measured = recorded(item.trial)
    return {name: as_number(measured.get(name)) for name in facts.baseline}
