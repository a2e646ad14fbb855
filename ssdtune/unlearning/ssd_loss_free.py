"""SSD without targets: the importances are of the output's norm, not of the loss (``fisher.importance``).

``lfssd``: Foster et al., "Loss-free machine unlearning", ICLR 2024 (tiny papers), squared norm. ``xlf``: Schoepf et
al., "Potion", 2024, norm. Knobs and equation are SSD's; ratios of absolute gradients are about the square roots of
SSD's, and so are the ranges and what is tried first.

Traps: a corrupted target is not seen, only what the inputs show; with clean k-space and poisoned targets forget and
retain samples look alike.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from ssdtune.fisher.importance import Size, importance, output_lacks
from ssdtune.progress import Track
from ssdtune.studyfile import Range
from ssdtune.task import Task
from ssdtune.unlearning.method import Analyse
from ssdtune.unlearning.ssd import ALPHA, LAMBDA, SSD, SSDOptions, SSDUnlearner


class LossFreeOptions(SSDOptions):
    """Those of SSD, with ranges for ratios of absolute gradients."""

    alpha: Range = (0.3, 30.0)
    lam: Range = Field((0.1, 30.0), alias="lambda")


class LFSSD(SSD):
    """Importances of the squared norm."""

    name, summary, sampler = "lfssd", "SSD by the output's squared norm: no training, needs no targets", "tpe"
    Options = LossFreeOptions
    size: Size = "squared norm"

    def needs(self, task: Task, options: Any) -> str | None:
        return output_lacks(task)

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{ALPHA: math.sqrt(10.0), LAMBDA: 1.0}]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> SSDUnlearner:
        return SSDUnlearner(task, options, importance(task, self.size, track))


class XLF(LFSSD):
    """Importances of the norm."""

    name, summary = "xlf", "SSD by the output's norm: no training, needs no targets"
    size: Size = "norm"
