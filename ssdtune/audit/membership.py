"""Membership inference: can the slices that were to be forgotten still be told from slices that were never seen?

Notation: a score (n,) is higher for slices that look trained on; J_i(theta) the loss of slice i, E_i(theta) its error,
the NMSE, of classifiers the loss. Members are the forget slices, the others come from the same distribution and were
seen by no model. Slices of a subject are dependent, so intervals resample whole subjects. The value to reach is the
oracle's on the same slices, not 0.5: members may be harder by themselves; a value *below* the oracle's says that
forgetting itself can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ssdtune.audit.measures import places_of

Array = NDArray[np.float64]

DRAWS = 400  # of subjects
FPR = 0.01
_LEAST = 1e-12  # a loss of zero has no logarithm


@dataclass(frozen=True)
class Attack:
    """How well an attack does. ``interval`` : 95 % of the AUC over subjects, None of less than two on either side.

    tpr : at a false positive rate of 1 %; None of less than 100 slices that are no members, which do not resolve it.
    """

    auc: float
    interval: tuple[float, float] | None
    tpr: float | None


def loss_score(losses: Array) -> Array:
    """-J_i: what was trained on has a low loss (Yeom et al., CSF 2018)."""
    return -losses


def calibrated_score(errors: Array, reference: Array) -> Array:
    """log E_i(reference) - log E_i(theta): the error against how hard the slice is by itself.

    The reference is a model that never saw the slice (the oracle), or none (the zero-filled image). Source: Shafran et
    al., arXiv:2102.07762 (membership error = reconstruction error - predictability error).
    """
    return _log(reference) - _log(errors)


def likelihood_ratio(errors: Array, unlearned: Array, oracles: Array) -> Array:
    """LiRA-lite: log N(t_i; mu_u,i, s) - log N(t_i; mu_o,i, s), t = log E, for each slice i, (n,).

    unlearned, oracles : (k, n) errors of k >= 2 models that were trained with the slices and unlearned, and of as many
    or more that never saw them. The mean is each slice's own, s is pooled over slices and models, as k is small.
    Source: Hayes et al., arXiv:2403.01218 (U-LiRA).
    """
    t, u, o = _log(errors), _log(unlearned), _log(oracles)
    within = np.concatenate([u - u.mean(0), o - o.mean(0)])
    degrees = (len(u) + len(o) - 2) * within.shape[1]
    variance = max(float(np.square(within).sum()) / degrees, _LEAST)
    ratio: Array = (np.square(t - o.mean(0)) - np.square(t - u.mean(0))) / (2 * variance)
    return ratio


def attack(scores: tuple[Array, Array], subjects: tuple[Sequence[str], Sequence[str]]) -> Attack:
    """AUC with its interval over subjects, and TPR at 1 % FPR, of scores of (members, others)."""
    members, others = scores
    inside, outside = map(places_of, subjects)

    def again(rng: np.random.Generator) -> float:
        return auc(members[_draw(inside, rng)], others[_draw(outside, rng)])

    interval = _interval(again) if min(len(inside), len(outside)) > 1 else None
    return Attack(auc(members, others), interval, true_positives(members, others))


def paired_attack(members: Array, others: Array, subjects: Sequence[str]) -> Attack:
    """The same for two scores of the same slices, whose subjects are drawn together."""
    places = places_of(subjects)

    def again(rng: np.random.Generator) -> float:
        drawn = _draw(places, rng)
        return auc(members[drawn], others[drawn])

    interval = _interval(again) if len(places) > 1 else None
    return Attack(auc(members, others), interval, true_positives(members, others))


def auc(members: Array, others: Array) -> float:
    """The chance that a member scores above another slice; ties count half (Mann and Whitney's U)."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    return float((ranks.mean() - (len(members) + 1) / 2) / len(others))


def true_positives(members: Array, others: Array, fpr: float = FPR) -> float | None:
    """Share of members above a bound that at most the share ``fpr`` of the others exceeds; None of too few others."""
    allowed = int(fpr * len(others))
    return float((members > np.sort(others)[-1 - allowed]).mean()) if allowed else None


def _draw(places: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([places[number] for number in rng.integers(len(places), size=len(places))])


def _interval(again: Callable[[np.random.Generator], float]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    low, high = np.quantile([again(rng) for _ in range(DRAWS)], [0.025, 0.975])
    return float(low), float(high)


def _log(errors: Array) -> Array:
    return np.log(np.maximum(errors, _LEAST))
