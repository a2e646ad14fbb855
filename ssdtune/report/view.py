"""A study as reports see it: its facts and its finished trials, read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import optuna

from ssdtune.objective.score import Score
from ssdtune.study.facts import StudyFacts, as_number, read_facts
from ssdtune.study.prior import StudyPrior, read_prior
from ssdtune.study.records import Counts, ScoredTrial, best_of, count_trials, leading, measures_of, scored_trials


@dataclass(frozen=True, eq=False)
class StudyView:
    """What a study holds. ``trials`` are the finished ones in order of their numbers; ``prior`` is the kept one."""

    name: str
    facts: StudyFacts
    trials: list[ScoredTrial]
    counts: Counts
    prior: StudyPrior | None = None

    @cached_property
    def best(self) -> ScoredTrial | None:
        """The best feasible trial; without one, the nearest to feasible; None where that was not evaluated in full."""
        return best_of(self.trials)

    @cached_property
    def leading(self) -> ScoredTrial | None:
        """The best; without one, the trial that is the nearest by its estimate; None before the first trial."""
        return leading(self.trials)

    @cached_property
    def untouched(self) -> Score:
        """Score of the untouched model."""
        return self.facts.rule(*self.facts.qualities(self.facts.baseline))

    @cached_property
    def oracle(self) -> Score | None:
        """Score of the oracle, where there is one."""
        return None if self.facts.oracle is None else self.facts.rule(*self.facts.qualities(self.facts.oracle))

    def measure_table(self) -> dict[str, dict[str, float]]:
        """Every recorded measure as ``{"retain_ssim": {"original": ..., "best": ..., "change": ..., "oracle": ...}}``.

        ``best``, ``change`` (best - original) and ``oracle`` are there only if the study has them; NaN where a value
        is not finite.
        """
        best = measures_of(self.best, self.facts) if self.best is not None else None
        table = {}
        for name, recorded in self.facts.baseline.items():
            row = {"original": as_number(recorded)}
            if best is not None:
                row |= {"best": best[name], "change": best[name] - row["original"]}
            if self.facts.oracle is not None:
                row["oracle"] = as_number(self.facts.oracle.get(name))
            table[name] = row
        return table


def read_view(study: optuna.Study) -> StudyView:
    """Read a study.

    Raises
    ------
    StorageError : the study was not made by ssdtune.
    """
    return StudyView(study.study_name, read_facts(study), scored_trials(study), count_trials(study), read_prior(study))
