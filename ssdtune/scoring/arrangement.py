"""How a GPU runs the networks: channels-last, compiled, as CUDA graphs, or none of it; tried at the start of a study.

What each is worth depends on the network, the slices and the GPU, so each is timed on the first slices, and taken where
it is faster and gives the same qualities. Compiling takes a minute or two: it is tried in long studies only. On a CPU
nothing is tried: there channels-last gains nothing, and compiling takes longer than it saves (``docs/trial_cost.md``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ssdtune.scoring.evaluator import Evaluator
from ssdtune.scoring.network import PLAIN, Arrangement
from ssdtune.scoring.prepared import Params
from ssdtune.scoring.sequential import RETAIN

TOLERANCE = 1e-3
"""Largest change of a slice's quality that an arrangement may make."""

COMPILING = 1200.0  # seconds that a study's networks must take for compiling to be tried
GAIN = 1.05  # times as fast as the best so far
SHRUNK = 0.98  # parameters in a second check: a recording must read those it is given

QUICK = (Arrangement(channels_last=True), Arrangement(captured=True), Arrangement(channels_last=True, captured=True))
SLOW = (Arrangement(compiled=True), Arrangement(compiled=True, captured=True))


@dataclass(frozen=True)
class Tried:
    """An arrangement with its seconds a slice (infinite where it failed) and the largest change of a quality."""

    arrangement: Arrangement
    seconds: float
    moved: float = 0.0


def choose_arrangement(
    evaluator: Evaluator, slices: float, candidates: Sequence[Arrangement] | None = None
) -> list[Tried]:
    """Set how the evaluator's networks run; returns what was tried.

    slices : about how many the study will evaluate. candidates : default ``QUICK`` on a GPU, and ``SLOW`` where the
    study is long.
    """
    on_gpu = torch.device(evaluator.task.device).type == "cuda"
    if not callable(getattr(evaluator.task.model, "quick", None)) or not (on_gpu or candidates):
        return []
    data, own = evaluator.prepared(RETAIN), evaluator.task.params
    trial = _Trial(
        evaluator,
        params=[own, {name: SHRUNK * value for name, value in own.items()}],
        slices=min(evaluator.batch_of(data.groups[0].values), len(data)),
    )
    tried = [trial(PLAIN)]
    tried += [trial(candidate) for candidate in (QUICK if candidates is None else candidates)]
    if candidates is None and _best(tried).seconds * slices > COMPILING:
        tried += [trial(candidate) for candidate in SLOW]
    best = _best(tried)
    evaluator.compute_in(evaluator.dtype, best.arrangement)
    if best.arrangement != PLAIN:
        evaluator.say(f"networks run {best.arrangement}, {tried[0].seconds / best.seconds:.1f} times as fast")
    return tried


def _best(tried: Sequence[Tried]) -> Tried:
    best = tried[0]
    for one in tried[1:]:
        if one.moved < TOLERANCE and one.seconds * GAIN < best.seconds:
            best = one
    return best


class _Trial:
    """Tries arrangements on the first slices, as many as a study's batches have; compares them with the first one."""

    def __init__(self, evaluator: Evaluator, params: Sequence[Params], slices: int) -> None:
        self._evaluator, self._params, self._slices = evaluator, params, slices
        self._reference: list[np.ndarray] | None = None

    def __call__(self, arrangement: Arrangement) -> Tried:
        try:
            self._evaluator.compute_in(self._evaluator.dtype, arrangement)
            seconds = self._seconds()  # first, so that what is recorded is recorded
            found = [self._measured(params) for params in self._params]
        except Exception as reason:  # a speed-up that this machine cannot do must not end a study
            if self._reference is None:
                raise
            self._evaluator.say(f"networks cannot run {arrangement} here: {str(reason).splitlines()[0]}")
            return Tried(arrangement, np.inf, np.inf)
        if self._reference is None:
            self._reference = found
        moved = max(float(np.abs(a - b).max()) for a, b in zip(found, self._reference, strict=True))
        return Tried(arrangement, seconds, moved if np.isfinite(moved) else np.inf)

    def _seconds(self, repeats: int = 6) -> float:
        """Seconds a slice, the shortest of the later runs."""
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            self._measured(self._params[-1])
            times.append(time.perf_counter() - started)
        return min(times[repeats // 2 :]) / self._slices

    def _measured(self, params: Params) -> np.ndarray:
        measured = self._evaluator.start(params)
        measured.extend(RETAIN, self._slices)
        return measured.quality(RETAIN)
