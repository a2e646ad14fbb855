"""What the mean over all slices is, judged from some of them and from models whose slices are all known.

Notation: y_i the quality of slice i under the trial's model, seen for n of N slices drawn without replacement; x_i (k,)
the qualities of the same slice under known models (the untouched one, the incumbent), known for all N. The regression
estimator (Cochran, Sampling Techniques, 1977, ch. 7) is

    m = mean(y) + b (mean over N of x - mean over n of x),      b by least squares,

and its variance, by the jackknife of residuals with weights g_i for the imbalance of x (Särndal et al., Model Assisted
Survey Sampling, 1992, eq. 6.6.3), with finite-population correction:

    v = (1 - n / N) / n^2 * sum_i (g_i e_i / (1 - h_i))^2,
    g_i = 1 + n (X - x)^T S^-1 (x_i - x),     h_i the leverage of slice i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

SKEW = 2.25
"""Skewness of residuals that bounds allow for. So much keeps their level over all looks under residuals as skewed as an
exponential distribution's, 2, of which the expansion's first term leaves a little out (simulated, 40 to 200 slices)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over N slices: its value, standard error, degrees of freedom, and how many slices were seen.

    right : how many of those seen are 1, where all are 0 or 1.
    """

    mean: float
    se: float
    freedom: int
    seen: int
    total: int
    right: int | None = None

    def below(self, level: float) -> float:
        """How far the mean over all slices may lie below ``mean``, at the one-sided ``level``, e.g. 0.975.

        Of right and wrong by the hypergeometric distribution, exactly. Else by Student's t with the first term of the
        Edgeworth expansion for residuals of skewness ``SKEW`` (Johnson, JASA, 1978): what few slices show of their own
        skewness is too little.
        """
        return self._reach(level, self.right)

    def above(self, level: float) -> float:
        """The same on the other side."""
        return self._reach(level, None if self.right is None else self.seen - self.right)

    def _reach(self, level: float, ones: int | None) -> float:
        if self.seen == self.total:
            return 0.0
        if ones is not None:
            from scipy import stats  # half a second, which images never need

            chance = stats.hypergeom.sf(ones - 1, self.total, np.arange(self.total + 1), self.seen)
            return ones / self.seen - float(np.argmax(chance > 1 - level)) / self.total
        if self.freedom <= 0:
            return math.inf
        t = float(special.stdtrit(self.freedom, level))
        return (t + SKEW * (2 * t * t + 1) / (6 * math.sqrt(self.seen))) * self.se


def estimate_mean(seen: np.ndarray, controls: np.ndarray, seen_places: slice | np.ndarray) -> Estimate:
    """The mean over all slices from those seen.

    seen : (n,) values. controls : (k, N) known values of all slices, k may be 0. seen_places : which of the N the seen
    ones are. Controls that say nothing (constant, or too few slices seen to fit them) are left out, the last ones
    first. With all N seen it is their mean, with no error. Values that are all 0 or 1 are taken for a proportion.
    """
    n, total = len(seen), controls.shape[1]
    if n == total:
        return Estimate(math.fsum(seen) / n, 0.0, n, n, total)
    if np.isin(seen, (0, 1)).all():
        return _proportion(seen, total)
    controls = _useful(controls, seen_places, n)
    x = controls[:, seen_places].T
    centred, shift = x - x.mean(axis=0), controls.mean(axis=1) - x.mean(axis=0)
    inverse = np.linalg.pinv(centred.T @ centred, rcond=1e-10, hermitian=True) if len(controls) else np.zeros((0, 0))
    slope = inverse @ centred.T @ (seen - seen.mean())
    residuals = seen - seen.mean() - centred @ slope
    leverage = 1 / n + np.einsum("ij,jk,ik->i", centred, inverse, centred)
    weights = 1 + n * centred @ inverse @ shift
    jackknifed = residuals / np.maximum(1 - leverage, 1e-3)
    variance = (1 - n / total) / n**2 * float(np.sum((weights * jackknifed) ** 2))
    freedom = n - 1 - len(controls)
    return Estimate(float(seen.mean() + shift @ slope), math.sqrt(variance), freedom, n, total)


def _proportion(seen: np.ndarray, total: int) -> Estimate:
    """Right or wrong: a run of equal values is no proof that all are, so a success and a failure are added (Agresti &
    Coull, The American Statistician, 1998)."""
    n = len(seen)
    share = (float(seen.sum()) + 1) / (n + 2)
    variance = (1 - n / total) * share * (1 - share) / n
    return Estimate(float(seen.mean()), math.sqrt(variance), n - 1, n, total, right=int(seen.sum()))


def _useful(controls: np.ndarray, places: slice | np.ndarray, n: int) -> np.ndarray:
    """The leading controls that vary among the seen slices, each with at least 4 slices to fit it."""
    kept: list[np.ndarray] = []
    for control in controls:
        if n < 4 * (len(kept) + 2):
            break
        part = control[places]
        spread = part.std()
        if np.isfinite(control).all() and spread > 1e-9 * max(abs(part).max(), 1e-12):
            kept.append(control)
    return np.array(kept).reshape(len(kept), controls.shape[1])
