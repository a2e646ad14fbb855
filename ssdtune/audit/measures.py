"""Distances of an unlearned model from the oracle, as pure functions.

Notation: theta' the unlearned model, theta^ the oracle (trained from scratch without the forget set), q_S the mean
quality of set S in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor


def tug_of_war(unlearned: Mapping[str, float], oracle: Mapping[str, float]) -> float:
    """ToW = prod_S (1 - |q_S(theta') - q_S(theta^)|), over the sets of both mappings; 1 is the oracle's like.

    Source: Zhao et al., "What makes unlearning hard and what to do about it", NeurIPS 2024, with S = forget, retain and
    test; qualities have to lie in [0, 1] (SSIM or accuracy, not PSNR).
    """
    return math.prod(1 - abs(unlearned[name] - oracle[name]) for name in unlearned)


def oracle_gap(unlearned: Mapping[str, float], oracle: Mapping[str, float]) -> float:
    """Average gap (1/K) sum_k |m_k(theta') - m_k(theta^)| over the K measures of both mappings; 0 is the oracle's like.

    Source: Jia et al., "Model sparsity can simplify machine unlearning", NeurIPS 2023, with forget, retain and test
    accuracy and membership inference.
    """
    return float(np.mean([abs(unlearned[name] - oracle[name]) for name in unlearned]))


def relearn_ratio(unlearned: int | None, oracle: int | None) -> float | None:
    """AIN = steps(theta') / steps(theta^) until the forget set is relearned; 1 is ideal, below 1 something was left.

    None where one of them was not there within its steps, or the oracle needs none.
    Source: Chundawat et al., "Zero-shot machine unlearning", 2023 (anamnesis index).
    """
    return None if unlearned is None or not oracle else unlearned / oracle


def weight_distance(params: Mapping[str, Tensor], others: Mapping[str, Tensor], unit: Mapping[str, Tensor]) -> float:
    """|theta - phi| / |theta_0| over the parameters that ``unit`` (theta_0) names.

    Weak evidence: networks far apart may do the same. Source: Tarun et al., "Fast yet effective machine unlearning".
    """
    far = sum(float((params[name].double() - others[name].double()).square().sum()) for name in unit)
    return math.sqrt(far / sum(float(value.double().square().sum()) for value in unit.values()))


def spread_over_volumes(column: np.ndarray, volumes: Sequence[str]) -> float | None:
    """Standard deviation (n - 1) of the volumes' means of a (slices,) column; None of less than two volumes."""
    means = [column[places].mean() for places in places_of(volumes)]
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


def places_of(volumes: Sequence[str]) -> list[np.ndarray]:
    """The places of each volume's slices, volumes in order of appearance."""
    labels = np.array(volumes, dtype=object)
    return [np.flatnonzero(labels == name) for name in dict.fromkeys(volumes)]
