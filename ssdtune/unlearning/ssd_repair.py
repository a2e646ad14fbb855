"""SSD with repair: a dampening, then a few steps on retain samples ("SSD+FisherReg", for which no code is public).

Notation: theta0 the untouched model, theta1 = SSD(theta0; alpha, lambda), o the retain Fisher diagonal. From theta1,
K steps of Adam on

    J_r + (beta / 2) Σ ô_p (theta_p - anchor_p)²,        ô = o / mean(o), at most its 0.999 quantile,

the penalty as a proximal step (``training``): elastic weight consolidation (Kirkpatrick et al., PNAS 2017) with the
retain set as the task to be kept. Anchored at theta0 it undoes damage where the retain set feels it; at theta1 it keeps
the repair from undoing the dampening.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from ssdtune.fisher.result import FisherAnalysis
from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Task
from ssdtune.unlearning.foreseen import knob_prior, rate_unit
from ssdtune.unlearning.method import Analyse, BaseUnlearner, Knob, Options, PriorRequest, Setting, Stage
from ssdtune.unlearning.plan import Natural, Penalty, Plan, TrainingOptions
from ssdtune.unlearning.ssd import SSD, SSDOptions, SSDUnlearner
from ssdtune.unlearning.training import Trainer, allowed, untrainable

if TYPE_CHECKING:
    from ssdtune.prior.knobs import KnobPrior

LR, BETA = "lr", "beta"
CAP = 0.999  # quantile of the penalty's weights


class SSDRepairOptions(SSDOptions, TrainingOptions):
    """Those of SSD and of the training, ranges of the relative rate (``rate_unit``) and of the penalty's weight.

    Dampenings are strong by default, as the repair follows, and penalties weak: a strong one towards theta0 remembers.
    steps : K. anchor : where the penalty pulls to. held_back : retain slices that are not trained on; if there are any,
    the repair ends when they have stopped gaining.
    """

    alpha: Range = (0.1, 100.0)
    lam: Range = Field((0.03, 30.0), alias="lambda")
    lr: Range = (0.05, 5.0)
    beta: Range = (1e-3, 10.0)
    steps: Natural = 12
    anchor: Literal["theta0", "theta1"] = "theta0"
    held_back: Natural = 0


class SSDRepair:
    """The method."""

    name, summary, sampler = "ssd-repair", "SSD, then a few training steps that repair the retain set", "ei"
    uses_analysis = True
    Options: type[Options] = SSDRepairOptions

    def needs(self, task: Task, options: SSDRepairOptions) -> str | None:
        if options.steps and (lacking := untrainable(task)) is not None:
            return lacking
        if options.steps and options.held_back >= allowed(len(task.retain), options):
            return f"retain samples to train on beside the {options.held_back} that are held back"
        return None

    def knobs(self, options: SSDRepairOptions) -> tuple[Knob, ...]:
        repair = (Knob(LR, *options.lr), Knob(BETA, *options.beta)) if options.steps else ()
        return *SSD().knobs(options), *repair

    def published(self, options: SSDRepairOptions) -> list[dict[str, float]]:
        return [{**setting, LR: 1.0, BETA: 1.0} for setting in SSD().published(options)]

    def prepare(self, task: Task, options: SSDRepairOptions, *, analyse: Analyse, track: Track) -> SSDRepairUnlearner:
        return SSDRepairUnlearner(task, options, analyse())


class SSDRepairUnlearner(BaseUnlearner):
    """SSD with repair on one task. ``unit`` : Adam's rate at lr = 1, known where there is a repair."""

    def __init__(self, task: Task, options: SSDRepairOptions, analysis: FisherAnalysis) -> None:
        self.analysis, self._analyse = analysis, lambda: analysis
        self._options, self._ssd = options, SSDUnlearner(task, options, analysis)
        self.preparation = self._ssd.preparation
        if not options.steps:
            return
        self.unit = rate_unit(analysis, task.name)
        self._trainer = Trainer(task, options, held_back=options.held_back)
        o = torch.from_numpy(analysis.retain.diagonal / analysis.retain.diagonal.mean())
        top = float(o.kthvalue(math.ceil(CAP * len(o))).values)
        self._weights = (o.clamp(max=top) if top else o).to(task.device)
        self._theta0 = self._trainer.flatten(task.params)

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        """One stage: a trial cannot be given up after the dampening, as a repair also forgets (so does fine-tuning)."""
        dampened = self._ssd.dampened(setting)
        if not self._options.steps:
            yield Stage(dampened)
            return
        anchor = self._theta0 if self._options.anchor == "theta0" else self._trainer.flatten(dampened)
        plan = Plan(
            self._options.steps,
            rate=setting[LR] * self.unit,
            penalty=Penalty(self._weights, anchor, setting[BETA]),
            stop_early=self._options.held_back > 0,
        )
        params, cost, _ = self._trainer.train(plan, seed, dampened)
        yield Stage(params, cost)

    def effect(self, setting: Setting) -> Hashable:
        # a repair is seeded by the whole setting: two that dampen alike are not repaired alike
        return tuple(sorted(setting.items())) if self._options.steps else self._ssd.effect(setting)

    def notes(self, setting: Setting) -> dict[str, float]:
        rate = {"rate": setting[LR] * self.unit} if self._options.steps else {}
        return {**self._ssd.notes(setting), **rate}

    def prior(self, request: PriorRequest) -> KnobPrior | None:
        return knob_prior(request, SSDRepair(), self._options, analysis=self._analyse, notes=self._ssd.notes)
