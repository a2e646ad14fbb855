"""Adaptive SSD (Schoepf, Foster & Brintrup, arXiv 2402.10098): SSD at one setting that the forget share phi decides.

    lambda = 1,   alpha such that the share rho = ln(1 + 100 phi) / 100 of the parameters is selected,

which is 2.4 % at phi = 0.1. Nothing is searched, so a study has one trial. The published code counts the forget samples
twice in phi; here phi is the task's.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any

from ssdtune.progress import Track
from ssdtune.task import Task
from ssdtune.unlearning.method import Analyse, BaseMethod, BaseUnlearner, Knob, Options, Setting, Stage
from ssdtune.unlearning.ssd import ALPHA, LAMBDA, SSDOptions, SSDUnlearner


class ASSDOptions(Options):
    """Nothing to choose."""


class ASSD(BaseMethod):
    """The method."""

    name, summary, sampler = "assd", "SSD at the setting that the forget share decides: nothing to search", "random"
    Options = ASSDOptions
    uses_analysis = True

    def knobs(self, options: ASSDOptions) -> tuple[Knob, ...]:
        return ()

    def published(self, options: ASSDOptions) -> list[dict[str, float]]:
        return [{}]

    def prepare(self, task: Task, options: ASSDOptions, *, analyse: Analyse, track: Track) -> ASSDUnlearner:
        return ASSDUnlearner(task, analyse())


class ASSDUnlearner(BaseUnlearner):
    """Adaptive SSD on one task. ``chosen`` : SSD's setting."""

    def __init__(self, task: Task, analysis: Any) -> None:
        self.analysis = analysis
        self._ssd = SSDUnlearner(task, SSDOptions.model_validate({}), analysis)
        self.preparation = self._ssd.preparation
        self.chosen = dampening_at(analysis, adaptive_share(task.phi))

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        yield Stage(self._ssd.dampened(self.chosen))

    def effect(self, setting: Setting) -> Hashable:
        return self._ssd.effect(self.chosen)

    def notes(self, setting: Setting) -> dict[str, float]:
        return self._ssd.notes(self.chosen)


def adaptive_share(share: float) -> float:
    """rho of a share of the training set, at most 1."""
    return min(math.log1p(100 * share) / 100, 1.0)


def dampening_at(ratios: Any, rho: float) -> dict[str, float]:
    """SSD's setting of lambda = 1 that selects the share ``rho``."""
    return {ALPHA: float(ratios.alpha_at(rho)), LAMBDA: 1.0}
