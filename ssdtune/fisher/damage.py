"""Damage surfaces: predicted loss increase of any dampening (alpha, lambda), in closed form, without a forward pass.

Notation as in ``ratios`` and ``sums``; delta = theta' - theta. For lam <= alpha and any set with Fisher diagonal S,
per-sample gradients g_i (i = 1..n) and mean gradient m:

    ½ Σ S_p delta_p²        = ½ [A - 2 lam B + lam² C],   A, B, C = Σ S_p theta_p² q_p^{0, 1, 2} over {r > alpha}
    ½ (1/n) Σ_i (g_i·delta)² = ½ [M_aa - 2 lam M_ab + lam² M_bb],   a_i, b_i = Σ g_ip theta_p q_p^{0, 1}; M: means
    m·delta                  = lam Σ m_p theta_p q_p - Σ m_p theta_p,   q = 1 / r

For lam > alpha the parameters with alpha < r <= lam keep their value (their factor is clamped to 1), so the point
equals (lam, lam) and is answered as such.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from ssdtune.arrays import Array
from ssdtune.fisher.ratios import positive
from ssdtune.fisher.sums import DiagonalSums
from ssdtune.fisher.tables import RowTables

LOW_RANK = 20
"""Eigenvectors in the low-rank form."""


@dataclass(frozen=True, eq=False)
class DamageTerms:
    """What the Fisher information says of each dampening; every field has the broadcast shape of (alpha, lambda).

    selected_fraction : share of parameters that change, rho at max(alpha, lambda).
    relative_change : |delta| / |theta|, 0 for theta = 0.
    mean_dampening : mean over all parameters of 1 - factor, in [0, 1].
    *_diagonal : ½ Σ S_p delta_p², the loss increase by the Fisher diagonal alone.
    *_full : ½ (1/n) Σ_i (g_i·delta)², by the whole Fisher matrix.
    *_low_rank : the same through the leading eigenvectors only.
    *_first : mean gradient · delta, the first-order loss change (signed).
    """

    selected_fraction: Array
    relative_change: Array
    mean_dampening: Array
    forget_diagonal: Array
    retain_diagonal: Array
    forget_full: Array
    retain_full: Array
    forget_low_rank: Array
    retain_low_rank: Array
    forget_first: Array
    retain_first: Array

    def as_dict(self) -> dict[str, Array]:
        """The terms by name, in the order above."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class DamageSurfaces:
    """The whole (alpha, lambda) plane of one analysis.

    sums : exact sums of the P-sized weights.
    forget, retain : tables of per-sample gradient rows.
    forget_leading, retain_leading : the same rows projected on leading eigenvectors (``RowTables.project``).
    """

    sums: DiagonalSums
    forget: RowTables
    retain: RowTables
    forget_leading: RowTables
    retain_leading: RowTables

    def __call__(self, alpha: ArrayLike, lam: ArrayLike) -> DamageTerms:
        """Terms at every point of the broadcast of ``alpha`` and ``lam``.

        A 64 x 64 plane of 30 M parameters takes well under a second. Raises ConfigError unless both are above 0.
        """
        alphas, lams = np.broadcast_arrays(positive("alpha", alpha), positive("lambda", lam))
        distinct, place = np.unique(np.maximum(alphas, lams), return_inverse=True)
        place = place.reshape(alphas.shape)
        counts = self.sums.ratios.counts(distinct)
        sums = {key: value[place] for key, value in self.sums.at(counts).items()}
        size = max(self.sums.ratios.size, 1)

        def quadratic(weight: str) -> Array:
            return _square(sums[weight, 0], sums[weight, 1], sums[weight, 2], lams)

        def rows(table: RowTables) -> Array:
            plain, mixed, shrunk = (part[place] for part in table.quadratic(counts))
            return 0.5 * _square(plain, mixed, shrunk, lams)

        selected = counts[place] / size
        return DamageTerms(
            selected_fraction=selected,
            relative_change=np.sqrt(quadratic("theta2")) / (self.sums.theta_norm or 1.0),
            mean_dampening=np.clip(selected - lams * sums["one", 1] / size, 0.0, 1.0),
            forget_diagonal=0.5 * quadratic("forget"),
            retain_diagonal=0.5 * quadratic("retain"),
            forget_full=rows(self.forget),
            retain_full=rows(self.retain),
            forget_low_rank=rows(self.forget_leading),
            retain_low_rank=rows(self.retain_leading),
            forget_first=lams * sums["forget_mean", 1] - sums["forget_mean", 0],
            retain_first=lams * sums["retain_mean", 1] - sums["retain_mean", 0],
        )


def _square(constant: Array, linear: Array, square: Array, scale: Array) -> Array:
    """constant - 2 scale linear + scale² square; rounding may push a vanishing one below 0."""
    return np.maximum(constant - 2 * scale * linear + scale * scale * square, 0.0)
