"""A study as reports see it: its record and its finished trials, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import optuna

from ssdtune.audit.audit import Audit
from ssdtune.objective.score import Score
from ssdtune.study.audit import read_audits
from ssdtune.study.prior import StudyPrior, read_prior
from ssdtune.study.record import Baseline, StudyRecord, as_number, read_baseline, read_record
from ssdtune.study.trials import Counts, ScoredTrial, best_of, count_trials, leading, measures_of, scored_trials


@dataclass(frozen=True, eq=False)
class StudyView:
    """What a study holds. ``trials`` are the finished ones in order of their numbers.

    prior : the kept one. slices : the untouched model slice by slice; None in studies that did not keep it.
    audits : evaluations by the field's measures, by trial.
    """

    name: str
    record: StudyRecord
    trials: list[ScoredTrial]
    counts: Counts
    prior: StudyPrior | None = None
    slices: Baseline | None = None
    audits: Mapping[int, Audit] = field(default_factory=dict)

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
        return self.record.rule(*self.record.qualities(self.record.baseline))

    @cached_property
    def oracle(self) -> Score | None:
        """Score of the oracle, where there is one."""
        return None if self.record.oracle is None else self.record.rule(*self.record.qualities(self.record.oracle))

    @cached_property
    def like_best(self) -> StudyView:
        """The trials that have the knobs of the best one: all, unless the method chose among several for each trial."""
        if self.leading is None or len(self.leading.setting) == len(self.record.knobs):
            return self
        knobs = tuple(knob for knob in self.record.knobs if knob.name in self.leading.setting)
        trials = [item for item in self.trials if item.setting.keys() == self.leading.setting.keys()]
        return replace(self, record=replace(self.record, knobs=knobs), trials=trials)

    def measure_table(self) -> dict[str, dict[str, float]]:
        """Every recorded measure as ``{"retain_ssim": {"original": ..., "best": ..., "change": ..., "oracle": ...}}``.

        ``best``, ``change`` (best - original) and ``oracle`` are there only if the study has them; NaN where a value
        is not finite.
        """
        best = measures_of(self.best, self.record) if self.best is not None else None
        table = {}
        for name, recorded in self.record.baseline.items():
            row = {"original": as_number(recorded)}
            if best is not None:
                row |= {"best": best[name], "change": best[name] - row["original"]}
            if self.record.oracle is not None:
                row["oracle"] = as_number(self.record.oracle.get(name))
            table[name] = row
        return table


def read_view(study: optuna.Study) -> StudyView:
    """Read a study. Raises StorageError: the study was not made by ssdtune."""
    record = read_record(study)
    trials = scored_trials(study, record=record)
    kept = read_prior(study), read_baseline(study), read_audits(study)
    return StudyView(study.study_name, record, trials, count_trials(study), *kept)
