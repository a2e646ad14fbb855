"""The trials of a study: how many, their scores under any weight, the best of them, and what is known from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import ConfigError
from ssdtune.objective.outcome import NON_FINITE, PRECISION, Outcome
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.objective.stopping import Incumbent
from ssdtune.study.record import (
    StudyRecord,
    as_number,
    interrupted,
    read_columns,
    read_record,
    read_trial,
    setting_of,
)
from ssdtune.unlearning.method import UNTOUCHED, Setting, Tried, Unlearner

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count towards the budget: evaluated in full, or stopped early with an estimate."""

Known = dict[Hashable, Outcome]
"""Outcomes already measured, by what their settings do and the seed it was done with."""


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

    def setting_in_words(self) -> str:
        """``alpha 8.8, lambda 3.8``."""
        return in_words(self.setting)


def in_words(setting: Setting) -> str:
    """The value of each knob by name."""
    return ", ".join(f"{name} {value:.6g}" for name, value in setting.items()) or "the only setting"


@dataclass(frozen=True)
class Counts:
    """Trials of a study: ``finished`` count towards its budget, ``failed`` had an error, ``interrupted`` did not."""

    finished: int
    running: int
    failed: int
    interrupted: int


def count_trials(study: optuna.Study) -> Counts:
    """How many trials of a study there are of each kind."""
    return counts_of(study.get_trials(deepcopy=False))


def counts_of(trials: Sequence[FrozenTrial]) -> Counts:
    """The same of trials at hand."""
    stopped = sum(interrupted(trial) for trial in trials)
    states = [trial.state for trial in trials]
    return Counts(
        finished=sum(state in FINISHED for state in states),
        running=states.count(TrialState.RUNNING),
        failed=states.count(TrialState.FAIL) - stopped,
        interrupted=stopped,
    )


def scored_trials(
    study: optuna.Study, rule: ScoreRule | None = None, record: StudyRecord | None = None
) -> list[ScoredTrial]:
    """All finished trials in order, scored from their recorded measures under ``rule`` (None: the study's own).

    ``record`` is the study's, if it has been read already.
    """
    record = record or read_record(study)
    return score_trials(study.get_trials(deepcopy=False, states=FINISHED), record, rule)


def score_trials(
    trials: Iterable[FrozenTrial], record: StudyRecord, rule: ScoreRule | None = None
) -> list[ScoredTrial]:
    """The finished ones among some trials of a study, scored from their recorded measures."""
    rule = rule or record.rule
    return [
        ScoredTrial(trial, rule(*record.qualities(read_trial(trial))), setting_of(trial, record))
        for trial in trials
        if trial.state in FINISHED
    ]


class Ended:
    """The trials at the front of a study that have ended, each taken up once, as they change no more.

    So what is asked of a study before every trial does not grow with its trials: only those from the first one under
    way on are looked at each time. ``count`` : how many were taken up. The trials given are always all of one study in
    order, or all but one under way.
    """

    def __init__(self, take: Callable[[FrozenTrial], None]) -> None:
        self.count, self._take = 0, take

    def rest(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """Take up those that have ended since; returns those that are not taken up."""
        at = self.count
        while at < len(trials) and trials[at].number == at and trials[at].state.is_finished():
            self._take(trials[at])
            at += 1
        self.count = at
        return trials[at:]


class Scores:
    """Scores of one study, again and again: a trial that has ended is scored once."""

    def __init__(self, record: StudyRecord) -> None:
        self._record = record
        self._finished, self._leading = 0, list[ScoredTrial]()  # of the front, and the leading one of it
        self._ended = Ended(self._take)

    def _take(self, trial: FrozenTrial) -> None:
        found = score_trials([trial], self._record)
        self._finished += len(found)
        first = leading([*self._leading, *found])
        self._leading = [] if first is None else [first]

    def __call__(self, trials: Sequence[FrozenTrial]) -> tuple[int, ScoredTrial | None]:
        """How many of a study's trials are finished, and ``best_of`` them."""
        rest = score_trials(self._ended.rest(trials), self._record)
        return self._finished + len(rest), best_of([*self._leading, *rest])


def incumbent_of(trials: Sequence[FrozenTrial], record: StudyRecord, scores: Scores | None = None) -> Incumbent:
    """The one to beat: the best feasible full evaluation so far, else the untouched model. ``scores`` : known ones."""
    untouched = Incumbent(record.rule(*record.qualities(record.baseline)), label=UNTOUCHED)
    _, best = (scores or Scores(record))(trials)
    if best is None or not untouched.beaten_by(best.score):
        return untouched
    return Incumbent(best.score, read_columns(best.trial), best.number)


def tried_of(trials: Iterable[FrozenTrial], record: StudyRecord) -> list[Tried]:
    """Trials that are finished or under way, as a method that chooses sees them."""
    trials = [trial for trial in trials if trial.state in (*FINISHED, TrialState.RUNNING)]
    scores = {item.number: item.score for item in score_trials(trials, record)}
    found = []
    for trial in trials:
        score = scores.get(trial.number)
        rank = (-math.inf, 0.0) if score is None else (-max(score.violation, 0.0), score.value)
        found.append(Tried(setting_of(trial, record), as_number(read_trial(trial).get("cost", 0.0)), rank))
    return found


def known_outcomes(study: optuna.Study, record: StudyRecord, unlearner: Unlearner, seed: int) -> Known:
    """What a study's trials have measured in full; may be merged with those of other studies on the same inputs."""
    known: Known = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        values, setting = read_trial(trial), setting_of(trial, record)
        outcome = Outcome(
            {name: values.get(name) for name in record.baseline},
            read_columns(trial),
            broken=values.get(NON_FINITE, []),
            notes=unlearner.notes(setting),
            precision=values.get(PRECISION, "float32"),
            reused=f"trial {trial.number} of {study.study_name}",
        )
        known.setdefault((unlearner.effect(setting), seed), outcome)
    return known


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
        "recorded": read_trial(trial),
    }


def measures_of(item: ScoredTrial, record: StudyRecord) -> dict[str, float]:
    """The recorded measures of a trial under the names of the baseline; NaN where not finite."""
    values = read_trial(item.trial)
    return {name: as_number(values.get(name)) for name in record.baseline}
