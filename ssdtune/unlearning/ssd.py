"""Selective Synaptic Dampening (Foster, Schoepf & Brintrup, AAAI 2024) as a method.

Knobs: alpha, the selection threshold on r = f / o, and lambda, the dampening constant (``ssdtune.dampening``). With
lambda > alpha a setting equals (lambda, lambda): parameters between the two are selected, but dampened by 1. Published
settings: alpha 10, lambda 1 (ResNet-18, CIFAR); alpha 50, lambda 0.1 (PinsFaces).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ssdtune.nests import move
from ssdtune.plane.settings import Box
from ssdtune.progress import Track
from ssdtune.studyfile import Positive, Range
from ssdtune.task import Task
from ssdtune.unlearning.method import (
    UNTOUCHED,
    Analyse,
    BaseMethod,
    Knob,
    Options,
    Params,
    PriorRequest,
    Setting,
    Stage,
    analysis_passes,
)

if TYPE_CHECKING:
    from ssdtune.fisher.result import FisherAnalysis
    from ssdtune.prior.density import HyperparameterPrior

ALPHA, LAMBDA = "alpha", "lambda"


class SSDOptions(Options):
    """Ranges of the two knobs, and the exponent of the dampening factor (1 as published)."""

    alpha: Range = (0.1, 300.0)
    lam: Range = Field((0.03, 300.0), alias="lambda")
    exponent: Positive = 1.0


class SSD(BaseMethod):
    """The method; ``prepare`` takes the Fisher analysis, after which a trial costs no gradient."""

    name, summary, sampler = (
        "ssd",
        "Selective Synaptic Dampening: no training, needs the Fisher information",
        "spectrum",
    )
    uses_analysis = True
    Options = SSDOptions

    def knobs(self, options: SSDOptions) -> tuple[Knob, ...]:
        return (
            Knob(ALPHA, *options.alpha, about="selection threshold"),
            Knob(LAMBDA, *options.lam, about="dampening constant"),
        )

    def published(self, options: SSDOptions) -> list[dict[str, float]]:
        return [{ALPHA: 10.0, LAMBDA: 1.0}]

    def prepare(self, task: Task, options: SSDOptions, *, analyse: Analyse, track: Track) -> SSDUnlearner:
        return SSDUnlearner(task, options, analyse())


class SSDUnlearner:
    """SSD on one task. ``source`` : any object with ``dampen`` and ``selected_fraction`` serves without a prior."""

    def __init__(self, task: Task, options: SSDOptions, source: Any) -> None:
        from ssdtune.fisher.result import FisherAnalysis

        self.analysis = source if isinstance(source, FisherAnalysis) else None
        self._task, self._options, self._source = task, options, source
        self.preparation = analysis_passes(task, self.analysis)

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        yield Stage(self.dampened(setting))

    def dampened(self, setting: Setting) -> Params:
        """Dampened parameters on the task's device."""
        found: Params = move(
            self._source.dampen(setting[ALPHA], setting[LAMBDA], self._options.exponent), self._task.device
        )
        return found

    def effect(self, setting: Setting) -> Hashable:
        rho = self.notes(setting)["rho"]
        return UNTOUCHED if rho == 0 else (rho, setting[LAMBDA])

    def notes(self, setting: Setting) -> dict[str, float]:
        """The place in the canonical plane: rho, kappa = lambda / alpha, and the alpha that they belong to."""
        alpha = max(setting[ALPHA], setting[LAMBDA])
        rho = float(self._source.selected_fraction(alpha))
        return {"effective_alpha": alpha, "rho": rho, "kappa": setting[LAMBDA] / alpha}

    def prior(self, request: PriorRequest) -> HyperparameterPrior | None:
        if self._known_to_mappers is None:
            return None
        prior: HyperparameterPrior = request.load_mapper().predict(
            self._known_to_mappers,
            retain_weight=request.retain_weight,
            min_retained=request.min_retained,
            floor_ratio=request.floor_ratio,
            bounds=Box(self._options.alpha, self._options.lam),
        )
        return prior

    def view(self) -> dict[str, Any] | None:
        from ssdtune.prior.view import TaskView

        return TaskView.on_grid(self._known_to_mappers).to_json() if self._known_to_mappers is not None else None

    @property
    def _known_to_mappers(self) -> FisherAnalysis | None:
        """No mapper is about other exponents, or other analyses than ours."""
        return self.analysis if self._options.exponent == 1 else None
