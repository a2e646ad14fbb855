"""Priors that mean harm: right where a plausibility check looks, wrong where the search goes.

Each is a response surface in which nothing selected still gives (1, 1), as of every task; there a check could find it
out. The own prediction is never used, but for the last kind, which turns it against the search.

wrong-task : the prediction for a task of another family, drawn by name.
shifted : the same on thresholds a decade away, up or down as drawn; the untouched model keeps its place.
worst-of-ten : of ten tasks of other families, the prediction whose mode has the largest regret here.
inverted : within the feasible band, what is remembered is turned round between its least and its most there, so that
the prior names as best what is worst and lets nothing else show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.competition.choosers import regret_at
from benchmarks.competition.priors import Predicted
from benchmarks.competition.replay import Replay
from benchmarks.competition.rivals import Setting
from benchmarks.competition.runs import BOX
from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.surrogate.improvement import Goal

Json = Mapping[str, Any]
KINDS = ("wrong-task", "shifted", "worst-of-ten", "inverted")
DECADE, OTHERS = 1.0, 10


def adversarial_priors(
    predicted: Mapping[str, Predicted], replays: Sequence[Replay], goal: Goal
) -> dict[str, dict[str, Json]]:
    """``{kind: {task: response}}`` for a goal; see the module."""
    by_key = {replay.key: replay for replay in replays}
    modes = {key: mode_of(each.response, goal) for key, each in predicted.items()}
    found: dict[str, dict[str, Json]] = {kind: {} for kind in KINDS}
    for key, own in predicted.items():
        strangers = sorted(other for other in predicted if by_key[other].family != by_key[key].family)
        rng = np.random.default_rng(list(key.encode()))
        drawn = [strangers[i] for i in rng.choice(len(strangers), min(OTHERS, len(strangers)), replace=False)]
        one = ResponseSurface.from_json(predicted[drawn[0]].response)
        found["wrong-task"][key] = one.to_json()
        found["shifted"][key] = shifted(one, DECADE if rng.random() < 0.5 else -DECADE).to_json()
        # what is best here is the same for all of them
        worst = max(drawn, key=lambda other: regret_at(by_key[key], modes[other], goal, best=0.0))
        found["worst-of-ten"][key] = predicted[worst].response
        found["inverted"][key] = inverted(ResponseSurface.from_json(own.response), goal).to_json()
    return found


def shifted(surface: ResponseSurface, decades: float) -> ResponseSurface:
    """The surface on thresholds so many decades higher; its first row, where nothing is selected, is (1, 1) still."""
    moved = replace(surface, log_alpha=surface.log_alpha + decades, course=None)
    return replace(moved, retained=_untouched(moved.retained), remembered=_untouched(moved.remembered))


def inverted(surface: ResponseSurface, goal: Goal) -> ResponseSurface:
    """What is remembered, turned round within the band that the surface holds feasible; nothing selected as it is."""
    band = goal.feasible(surface.retained.mean(axis=0))
    band[0] = False
    if not band.any():
        return surface
    within = surface.remembered[:, band]
    remembered = surface.remembered.copy()
    remembered[:, band] = within.min() + within.max() - within
    return replace(surface, remembered=remembered)


def mode_of(response: Json, goal: Goal) -> Setting:
    """The setting that a prior with this response names first."""
    mode = HyperparameterPrior(ResponseSurface.from_json(response), goal.retain_weight, goal.min_retained, BOX).mode
    return Setting(mode["alpha"], mode["lambda"])


def _untouched(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[:, 0] = 1
    return values
