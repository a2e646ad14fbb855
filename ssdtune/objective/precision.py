"""What the networks compute in: float32, or bfloat16 for those who ask, where it does not move SSIM."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.stopping import FIRST_LOOK, FORGET, RETAIN

Precision = Literal["float32", "bfloat16"]

TOLERANCE = 1e-3
"""Largest change of any slice's quality against float32 that is put up with."""


def choose_precision(evaluator: Evaluator, precision: Precision = "float32") -> None:
    """Set what the evaluator computes in.

    bfloat16 is given up, which is said, where any of the first slices of the retain or the forget set moves by more
    than ``TOLERANCE``, or where the model has no other form.
    """
    if precision == "bfloat16" and not callable(getattr(evaluator.task.model, "quick", None)):
        evaluator.say("computing in float32: the model has no other form")
        precision = "float32"
    if precision == "float32":
        if evaluator.dtype != torch.float32:  # of another study
            evaluator.compute_in(torch.float32)
        return
    moved = _largest_change(evaluator)
    if moved < TOLERANCE:
        evaluator.compute_in(torch.bfloat16)
        evaluator.say(f"computing in bfloat16: the quality of a slice moves by {moved:.1e} at most")
    else:
        evaluator.compute_in(torch.float32)
        evaluator.say(f"computing in float32: bfloat16 would move the quality of a slice by {moved:.1e}")


def _largest_change(evaluator: Evaluator) -> float:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        evaluator.compute_in(dtype)
        measured = evaluator.start(None)
        for name in (RETAIN, FORGET):
            measured.extend(name, FIRST_LOOK)
        found.append(np.concatenate([measured.quality(name) for name in (RETAIN, FORGET)]))
    change = float(np.abs(found[0] - found[1]).max())
    return change if np.isfinite(change) else np.inf
