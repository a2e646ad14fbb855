"""What the networks compute in: bfloat16 where it does not move SSIM, else float32; looked at once, and said."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.stopping import FIRST_LOOK, FORGET, RETAIN

Precision = Literal["auto", "float32", "bfloat16"]

TOLERANCE = 1e-3
"""Largest change of any slice's quality against float32 that is put up with."""


def choose_precision(evaluator: Evaluator, precision: Precision = "auto") -> None:
    """Set what the evaluator computes in.

    ``auto`` asks for bfloat16 on a GPU and float32 elsewhere: on CPUs not all have instructions for it, and its
    rounding may send a search another way. bfloat16 is given up, which is said, where any of the first slices of the
    retain or the forget set moves by more than ``TOLERANCE``.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and torch.device(evaluator.task.device).type == "cuda")
    quick = callable(getattr(evaluator.task.model, "quick", None))
    if precision == "bfloat16" and not quick:
        evaluator.say("computing in float32: the model has no other form")
    if not wanted or not quick:
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
