"""Potion (Schoepf, Foster & Brintrup, DMLR 2024): dampen more and more until the forget samples are forgotten enough.

Importances of the output's norm (``xlf``), lambda = 1. Step k selects the share rho = ln(1 + 100 s_k) / 100 of the
parameters, s_k = 1.1^k phi / 25, each time from the untouched model, and the first step ends the search at which

    (q_f - floor) / (q_f(theta0) - floor) <= rho_cut,

q_f the quality of known forget samples, so that retain samples may be contaminated. The floor is the oracle's q_f, else
the task's, else 0 as published (accuracy over the untouched one's). Published for rho_cut: 0 to 0.75; none is the
default.

This is a search inside a setting: each look at the forget samples is billed. Steps do not depend on rho_cut, so what
was seen for one setting is known to the next; that saves seconds and is billed all the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field

from ssdtune.device import full_precision
from ssdtune.fisher.importance import Importance, importance, output_lacks
from ssdtune.progress import Track
from ssdtune.studyfile import Share, rising
from ssdtune.task import Chosen, Task, batches, sample_ids
from ssdtune.unlearning.method import Analyse, BaseMethod, BaseUnlearner, Knob, Options, Params, Setting, Stage
from ssdtune.unlearning.plan import Count
from ssdtune.unlearning.sets import shuffled
from ssdtune.unlearning.ssd import ALPHA, SSDOptions, SSDUnlearner
from ssdtune.unlearning.ssd_adaptive import adaptive_share, dampening_at

RHO_CUT = "rho_cut"
START = 25  # the first share is phi over it


class PotionOptions(Options):
    """Range of the cut.

    growth : of the share from one step to the next. steps : the most (500 as published). forget_slices : the most that
    are looked at, drawn by ``seed``. batch_size : slices at once.
    """

    rho_cut: Annotated[tuple[Share, Share], AfterValidator(rising)] = (0.0, 0.9)
    growth: Annotated[float, Field(gt=1)] = 1.1
    steps: Count = 200
    forget_slices: Count | Literal["all"] = 32
    batch_size: Count = 8


class Potion(BaseMethod):
    """The method."""

    name, summary = "potion", "Dampens until known forget samples are forgotten: a search in itself"
    Options = PotionOptions
    uses_analysis = True  # or its like

    def needs(self, task: Task, options: PotionOptions) -> str | None:
        return output_lacks(task)

    def knobs(self, options: PotionOptions) -> tuple[Knob, ...]:
        return (Knob.over(RHO_CUT, options.rho_cut, "linear", about="remembered at which it stops"),)

    def prepare(self, task: Task, options: PotionOptions, *, analyse: Analyse, track: Track) -> PotionUnlearner:
        return PotionUnlearner(task, options, importance(task, "norm", track))


class PotionUnlearner(BaseUnlearner):
    """The method on one task. ``looks`` : what was remembered after each step so far."""

    def __init__(self, task: Task, options: PotionOptions, ratios: Importance) -> None:
        self.task, self.options = task, options
        self._ratios, self._ssd = ratios, SSDUnlearner(task, SSDOptions.model_validate({}), ratios)
        order = shuffled(len(task.forget), [*sample_ids(task.forget), "forget", "slices", str(options.seed)])
        most = None if options.forget_slices == "all" else options.forget_slices
        self._forget = list(batches(Chosen(task.forget, order[:most]), options.batch_size, task.device))
        self.slices = sum(len(batch.indices) for batch in self._forget)
        self._untouched, self._floor = self.quality(None), task.floor or 0.0
        if task.oracle is not None:
            self._floor = self.quality(dict(task.oracle.named_parameters()) | dict(task.oracle.named_buffers()))
        self.looks: list[float] = []
        looks = self.slices * (1 if task.oracle is None else 2)  # of the untouched model, and of the oracle
        self.preparation = self._ssd.preparation + looks

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        step = self.stop(setting[RHO_CUT])
        yield Stage(self._ssd.dampened(self.dampening(step)), self.slices * (step + 1.0))

    def dampening(self, step: int) -> dict[str, float]:
        """SSD's setting of a step."""
        share = self.task.phi / START * self.options.growth**step
        return dampening_at(self._ratios, adaptive_share(share))

    def stop(self, cut: float) -> int:
        """The first step that remembers no more than the cut; without one the last that changes anything."""
        for step in range(self.options.steps):
            dampening = self.dampening(step)
            if step == len(self.looks):
                gap = self._untouched - self._floor
                found = self.quality(self._ssd.dampened(dampening)) - self._floor
                self.looks.append(found / gap if gap > 0 else 0.0)
            # not finite is forgotten; and lambda = 1 does nothing to ratios below 1
            if not self.looks[step] > cut or dampening[ALPHA] <= 1:
                return step
        return self.options.steps - 1

    @full_precision()
    @torch.no_grad()
    def quality(self, params: Params | None) -> float:
        """Mean q of the forget samples."""
        total = 0.0
        for batch in self._forget:
            measures = self.task.measures(self.task.predict(params, batch.inputs), batch.target)
            total += float(next(iter(measures.values())).double().sum())
        return total / self.slices

    def effect(self, setting: Setting) -> Hashable:
        return tuple(setting.items())

    def notes(self, setting: Setting) -> dict[str, float]:
        step = self.stop(setting[RHO_CUT])
        return {**self._ssd.notes(self.dampening(step)), "looks": step + 1.0}
