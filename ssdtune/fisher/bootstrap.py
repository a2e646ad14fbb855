"""How far features would move with other samples: bootstrap intervals, and when they say that there are too few.

Percentile bootstrap (Efron 1979) over samples: forget and retain samples are redrawn with replacement, each set by
itself, and every feature that comes from the Gram matrices alone is computed anew; no gradient is touched. A sample
drawn c times enters as one row scaled by sqrt(c), which leaves the nonzero eigenvalues as they are with c equal rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdtune.fisher.features import FEATURES, FeatureInputs
from ssdtune.fisher.statistics import SetStatistics

DRAWS = 200
FEWEST = 8  # samples below which an interval itself means nothing
WIDEST = 0.25  # half-width of an interval, relative to the value
JUDGED = ("top_share", "effective_rank")


class Interval(NamedTuple):
    """95 % percentile interval."""

    low: float
    high: float


def intervals(inputs: FeatureInputs, seed: int = 0, draws: int | None = None) -> dict[str, Interval]:
    """95 % interval of each resampled feature by name; the same seed gives the same intervals.

    draws : resamples; default 200, fewer for sets above 512 samples (each costs two eigendecompositions), at least 30.
    """
    largest = max(inputs.forget.n, inputs.retain.n)
    draws = draws or int(np.clip(DRAWS * (512 / largest) ** 2, 30, DRAWS))
    rng = np.random.default_rng(seed)
    names = [name for name, feature in FEATURES.items() if feature.resampled]
    values = np.empty((draws, len(names)))
    for draw in range(draws):
        resampled = _resample(inputs, rng)
        values[draw] = [FEATURES[name].compute(resampled) for name in names]
    low, high = np.quantile(values, [0.025, 0.975], axis=0)
    return {name: Interval(float(low[i]), float(high[i])) for i, name in enumerate(names)}


def too_few(inputs: FeatureInputs, values: Mapping[str, float], found: Mapping[str, Interval]) -> list[str]:
    """One sentence a set whose sample count does not settle its spectrum; empty where both do.

    The rule: fewer than 8 samples; or top share or effective rank with an interval wider than ±25 % of the value, or
    with the value itself outside (resampling draws fewer distinct samples, so a spectrum that still grows with the
    number of samples falls out of its own interval).
    """
    complaints = []
    for side, n in (("forget", inputs.forget.n), ("retain", inputs.retain.n)):
        if n < FEWEST:
            complaints.append(f"{n} {side} samples are too few for a spectrum: give at least {FEWEST}")
            continue
        loose = [name for name in JUDGED if _loose(values[f"{side}_{name}"], found[f"{side}_{name}"])]
        if loose:
            named = " and ".join(_in_words(name, values[f"{side}_{name}"], found[f"{side}_{name}"]) for name in loose)
            complaints.append(f"{n} {side} samples do not settle the spectrum, {named}: give more if you have them")
    return complaints


def _in_words(name: str, value: float, interval: Interval) -> str:
    words = f"{name.replace('_', ' ')} {value:.3g}"
    if interval.low <= value <= interval.high:
        return f"{words} (95 % interval {interval.low:.3g} … {interval.high:.3g})"
    way = "falls" if value < interval.low else "grows"
    return f"{words}, which {way} with the number of samples"


def _loose(value: float, interval: Interval) -> bool:
    slack = 1e-9 * abs(value)
    outside = not interval.low - slack <= value <= interval.high + slack
    return outside or (interval.high - interval.low) / 2 > WIDEST * abs(value)


def _resample(inputs: FeatureInputs, rng: np.random.Generator) -> FeatureInputs:
    forget, forget_rows, forget_weights = _redraw(inputs.forget, rng)
    retain, retain_rows, retain_weights = _redraw(inputs.retain, rng)
    cross = inputs.cross[np.ix_(forget_rows, retain_rows)] * np.outer(forget_weights, retain_weights)
    return replace(inputs, forget=forget, retain=retain, cross=cross)


def _redraw(
    statistics: SetStatistics, rng: np.random.Generator
) -> tuple[SetStatistics, NDArray[np.intp], NDArray[np.float64]]:
    """(the resampled set, its distinct rows, their weights sqrt(count))."""
    n = statistics.n
    rows, counts = np.unique(rng.integers(0, n, n), return_counts=True)
    weights = np.sqrt(counts.astype(np.float64))
    gram = statistics.gram[np.ix_(rows, rows)] * np.outer(weights, weights)
    return SetStatistics(gram, statistics.losses, None, weights, n), rows, weights
