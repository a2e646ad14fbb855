"""The prior of a study: offered by its method when the study first needs it, and kept in the study.

A resumed study and every other process go on with the kept one, whatever mapper is installed by then: also where two
machines make one at the same moment, the one that the study ends up with is followed by both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import optuna

from ssdtune.errors import ConfigError
from ssdtune.prior import knobs
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.prior.knobs import KnobPrior
from ssdtune.samplers.table import SAMPLERS, Prior, SamplerChoice, SamplerFactory
from ssdtune.study.large import read_large, same_content, write_large
from ssdtune.study.record import PRIOR, StudyRecord
from ssdtune.surrogate.improvement import Goal
from ssdtune.unlearning.foreseen import first_of
from ssdtune.unlearning.method import PriorRequest, Unlearner


@dataclass(frozen=True, eq=False)
class StudyPrior:
    """A study's prior, and the version of the mapper that predicted it."""

    prior: Prior
    mapper: str

    @property
    def trust(self) -> float:
        """How likely the task is one of the kind that the mapper has learned from, in (0, 1]."""
        return self.prior.trust

    @property
    def leans_on_data(self) -> bool:
        """Whether the task is unlike the mapper's experience, so that the trials decide rather than the prior."""
        return not self.prior.leads

    def summary(self) -> dict[str, Any]:
        """What it is, as plain JSON values without the surfaces."""
        return {
            "mapper": self.mapper,
            "trust": self.trust,
            "leans_on_data": self.leans_on_data,
            "mode": self.prior.mode,
            "retain_weight": self.prior.retain_weight,
            "min_retained": self.prior.min_retained,
        }

    def in_words(self) -> str:
        """One line."""
        mode = ", ".join(f"{name} {value:.4g}" for name, value in self.prior.mode.items())
        unlike = "; unlike the mapper's experience, so the search leans on the data" if self.leans_on_data else ""
        return f"mode {mode}; trust {self.trust:.2f} (mapper {self.mapper}){unlike}"


def fix_prior(study: optuna.Study, record: StudyRecord, unlearner: Unlearner, mapper: Any = None) -> StudyPrior | None:
    """The study's prior: the kept one, else the method's, which is then kept; None where none can be had.

    There is none for the raw score, whose maximum no mapper is about. ``mapper`` : default the one the study names, or
    the bundled one.

    Raises ConfigError, DataError: the mapper or the kept prior cannot be read.
    """
    kept = read_prior(study)
    if kept is not None or record.rule.kind == "raw":
        return kept
    asked: list[Any] = []

    def load() -> Any:
        from ssdtune.prior.mapper import SpectrumMapper

        asked.append(mapper or SpectrumMapper.load(record.search.mapper))
        return asked[-1]

    rule = record.rule
    prior = unlearner.prior(PriorRequest(rule.retain_weight, rule.min_retained, rule.floor / rule.q_forget, load))
    if prior is None:
        return None
    keep_prior(study, StudyPrior(prior, asked[-1].version if asked else ""))
    return read_prior(study)


def keep_prior(study: optuna.Study, fixed: StudyPrior) -> None:
    """Write the prior into the study."""
    write_large(study, PRIOR, fixed.prior.to_json(), fixed.summary())


def read_prior(study: optuna.Study) -> StudyPrior | None:
    """The prior that the study keeps, None if it keeps none. Raises ConfigError: it was written in another format."""
    kept = read_large(study, PRIOR)
    return None if kept is None else StudyPrior(_read(kept[1]), str(kept[0]["mapper"]))


def _read(raw: Mapping[str, Any]) -> Prior:
    kind: type[Prior] = KnobPrior if raw.get("format") == knobs.FORMAT else HyperparameterPrior
    return kind.from_json(raw)


class _Followed:
    """The study's prior as it is now: read anew where another machine has replaced it."""

    def __init__(self, study: optuna.Study, fixed: StudyPrior | None) -> None:
        self._study, self._fixed = study, fixed
        self._header: Mapping[str, Any] | None = study.user_attrs.get(PRIOR)

    def __call__(self) -> Prior | None:
        header = self._study.user_attrs.get(PRIOR)
        if not same_content(header, self._header):
            self._fixed, self._header = read_prior(self._study), header
        return self._fixed.prior if self._fixed is not None else None


def check_sampler(study: optuna.Study, record: StudyRecord) -> SamplerChoice:
    """The sampler that the study names; raises ConfigError where only an earlier version had it."""
    if record.search.sampler not in SAMPLERS:
        what = f"its sampler '{record.search.sampler}' is no longer there"
        todo = "its trials can be read still; to search on, create a study with another sampler"
        raise ConfigError(what, f"study '{study.study_name}'", todo)
    return SAMPLERS[record.search.sampler]


def study_sampler(study: optuna.Study, record: StudyRecord, unlearner: Unlearner) -> SamplerFactory:
    """What makes the study's samplers; the prior, where they use one, is fixed in the study.

    Raises ConfigError, DataError: no such sampler, or the mapper or the kept prior cannot be read.
    """
    choice, rule = check_sampler(study, record), record.rule
    fixed = fix_prior(study, record, unlearner) if choice.uses_prior else None
    goal = Goal(rule.retain_weight, rule.min_retained)

    @cache
    def blank() -> KnobPrior | None:
        first = first_of(record.chosen.method, record.chosen.options)
        return KnobPrior.blank(record.knobs, first, goal) if record.knobs else None

    return SamplerFactory(choice, record.search.seed, study.study_name, goal, _Followed(study, fixed), blank)
