"""SalUn (Fan et al., ICLR 2024): another method's training in which only the salient parameters move.

    theta_t+1 = theta_t + m (u_t - theta_t),   m_p = 1 for the share q with the largest |d J_f / d theta_p|, else 0,

u_t what a step of the base makes of theta_t, J_f the untouched model's mean loss over the forget slices (a mean
gradient, not a Fisher diagonal). q = 1 is the base to the bit. The base is ``nl-ft`` at w_f = 1, the nearest to the
published random labels, or ``ng``, or ``bad-teacher``. Published: q = 0.5. ``mask = "ratio"`` takes the share with the
largest SSD ratio f_p / o_p in its place (as SFRon, Huang et al., NeurIPS 2024, which takes all of at least 1).

Traps: the mask holds the step. On the gradient, as in the published code until 2026, momentum and penalties move what
was to stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from ssdtune.fisher.result import FisherAnalysis
from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Task
from ssdtune.unlearning.bad_teacher import FORGET_WEIGHT, BadTeacher, BadTeacherOptions
from ssdtune.unlearning.ft import FT, FTUnlearner
from ssdtune.unlearning.method import BACKWARD, Analyse, Knob, Setting, Unlearner, analysis_passes
from ssdtune.unlearning.ng import NG, NGOptions
from ssdtune.unlearning.nl import NLFT, NLFTOptions
from ssdtune.unlearning.plan import Plan

Q = "q"
BASES: dict[str, FT] = {"nl-ft": NLFT(), "ng": NG(), "bad-teacher": BadTeacher()}
FIXED = {"nl-ft": FORGET_WEIGHT}  # knob of the base that is not searched, as four are searched well


class SalUnOptions(NLFTOptions, NGOptions, BadTeacherOptions):
    """Those of the base, whose alone may be given, and the range of the share that moves; ``mask`` : by what."""

    lr: Range = (0.05, 10.0)
    q: Range = (0.01, 1.0)
    base: Literal["nl-ft", "ng", "bad-teacher"] = "nl-ft"
    mask: Literal["gradient", "ratio"] = "gradient"

    @model_validator(mode="after")
    def _of_the_base(self) -> Self:
        known = {Q, "base", "mask", *BASES[self.base].Options.model_fields} - {FIXED.get(self.base)}
        for name, field in type(self).model_fields.items():
            if name not in known and getattr(self, name) != field.default:
                raise ValueError(f"base '{self.base}' has no option '{name}' here")
        if self.q[1] > 1:
            raise ValueError(f"q is a share, at most 1, got {list(self.q)}")
        return self


class SalUn(FT):
    """The method."""

    name, summary = "salun", "nl-ft, ng or bad-teacher where only those move that the forget loss feels most"
    Options = SalUnOptions
    sets = ("retain", "forget")

    def needs(self, task: Task, options: Any) -> str | None:
        return BASES[options.base].needs(task, options)

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        own = [knob for knob in BASES[options.base].knobs(options) if knob.name != FIXED.get(options.base)]
        return *own, Knob.over(Q, options.q, about="share of the parameters that moves")

    def uses_analysis(self, options: Any) -> bool:
        return bool(options.mask == "ratio")

    def published(self, options: Any) -> list[dict[str, float]]:
        base = BASES[options.base].published(options)
        fixed = FIXED.get(options.base)
        return [{**{name: value for name, value in setting.items() if name != fixed}, Q: 0.5} for setting in base]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        base = BASES[options.base].prepare(task, options, analyse=analyse, track=track)
        assert isinstance(base, FTUnlearner)
        return SalUnUnlearner(base, analyse() if options.mask == "ratio" else None)


class SalUnUnlearner(FTUnlearner):
    """A base with a mask on one task. ``order`` : (P,) parameter numbers by falling |mean forget gradient|, or ratio
    where there is an analysis."""

    def __init__(self, base: FTUnlearner, analysis: FisherAnalysis | None) -> None:
        super().__init__(base.trainer)
        self.base, self.analysis = base, analysis
        if analysis is None:
            self.preparation = base.preparation + BACKWARD * self.trainer.slices("forget")
            self.order = self.trainer.mean_gradient("forget").abs().argsort(descending=True, stable=True)
        else:
            self.preparation = base.preparation + analysis_passes(base.trainer.task, analysis)
            self.order = torch.from_numpy(analysis.ratios.order.astype(np.int64)).to(base.trainer.task.device)

    def plan(self, setting: Setting, seed: int) -> Plan:
        return replace(self.base.plan(setting, seed), mask=self.mask(setting[Q]))

    def mask(self, share: float) -> Tensor | None:
        """(P,) what moves; None: everything."""
        count = round(share * len(self.order))
        if count == len(self.order):
            return None
        moves = torch.zeros(len(self.order), dtype=torch.bool, device=self.order.device)
        moves[self.order[:count]] = True
        return moves
