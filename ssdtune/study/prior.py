"""The prior of a study: predicted once, when the study first needs it, and kept in the study.

A resumed study and every other process go on with the kept one, whatever mapper is installed by then. The attribute
``prior`` says in plain values what it is; the surfaces lie beside it, packed, in pieces that any database takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import optuna

from ssdtune.fisher.result import FisherAnalysis
from ssdtune.plane.settings import Box
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.samplers.space import Analysis
from ssdtune.study.facts import StudyFacts
from ssdtune.study.packed import read_packed, write_packed

PRIOR = "prior"


class Mapper(Protocol):
    """What a study needs of a ``SpectrumMapper``."""

    @property
    def version(self) -> str: ...

    def predict(
        self,
        fisher: FisherAnalysis,
        *,
        retain_weight: float,
        min_retained: float,
        floor_ratio: float | None,
        bounds: Box,
    ) -> HyperparameterPrior: ...


@dataclass(frozen=True, eq=False)
class StudyPrior:
    """A study's prior, and the version of the mapper that predicted it."""

    prior: HyperparameterPrior
    mapper: str

    @property
    def trust(self) -> float:
        """How likely the task is one of the kind that the mapper has learned from, in (0, 1]."""
        return self.prior.response.trust

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
        mode = self.prior.mode
        words = f"mode alpha {mode['alpha']:.4g}, lambda {mode['lambda']:.4g}; trust {self.trust:.2f}"
        unlike = "; unlike the mapper's experience, so the search leans on the data" if self.leans_on_data else ""
        return f"{words} (mapper {self.mapper}){unlike}"


def fix_prior(
    study: optuna.Study, facts: StudyFacts, analysis: Analysis, mapper: Mapper | None = None
) -> StudyPrior | None:
    """The study's prior: the kept one, else one predicted now and kept; None where no prior can be had.

    There is none for the raw score, whose maximum no mapper is about, for an exponent other than 1, and for an analysis
    that is no ``FisherAnalysis``. ``mapper`` : default the one the study names, or the bundled one.

    Raises
    ------
    ConfigError, DataError : the mapper or the kept prior cannot be read.
    """
    kept = read_prior(study)
    if kept is not None:
        return kept
    if facts.rule.kind == "raw" or facts.search.exponent != 1 or not isinstance(analysis, FisherAnalysis):
        return None
    if mapper is None:
        from ssdtune.prior.mapper import SpectrumMapper

        mapper = SpectrumMapper.load(facts.search.mapper)
    rule = facts.rule
    prior = mapper.predict(
        analysis,
        retain_weight=rule.retain_weight,
        min_retained=rule.min_retained,
        floor_ratio=rule.floor / rule.q_forget,
        bounds=Box(facts.search.alpha, facts.search.lam),
    )
    fixed = StudyPrior(prior, mapper.version)
    keep_prior(study, fixed)
    return fixed


def keep_prior(study: optuna.Study, fixed: StudyPrior) -> None:
    """Write the prior into the study."""
    write_packed(study, PRIOR, fixed.prior.to_json(), fixed.summary())


def read_prior(study: optuna.Study) -> StudyPrior | None:
    """The prior that the study keeps, None if it keeps none.

    Raises
    ------
    ConfigError : it was written in another format.
    """
    stored = study.user_attrs
    raw = read_packed(stored, PRIOR)
    return None if raw is None else StudyPrior(HyperparameterPrior.from_json(raw), str(stored[PRIOR]["mapper"]))
