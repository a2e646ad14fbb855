"""Damage planes of the spectral update: predicted loss changes of both sets, from matrices of sample size alone.

Notation: G_S (n_S, P) gradient rows of set S, ḡ_S (P,) mean gradients, F_r = G_rᵀ G_r / n_r, D a positive diagonal, and

    M(mu) = F_r + mu D,     d(mu, w) = M(mu)⁻¹ (ḡ_f - w ḡ_r),     theta' = theta + eta |theta| d / |d|

which for eta > 0 is ascent of the forget loss. With A = G D⁻¹ Gᵀ and B = G D⁻² Gᵀ over the rows (G_f, G_r, ḡ_f, ḡ_r),
a = (1, -w), and A_rr / n_r = U diag(l) Uᵀ, Woodbury's identity gives (h_j = 1 / (mu + l_j))

    d = D⁻¹ (ḡ_f - w ḡ_r - G_rᵀ z) / mu,   z = U h Uᵀ A_rm a / n_r
    G_r d = n_r z,   G_S d = (A_Sm a - A_Sr z) / mu,   |d|² = (aᵀ B_mm a - 2 aᵀ B_mr z + zᵀ B_rr z) / mu²

D is scaled such that l_1 = 1 (``metric``), so mu is measured against the largest retain eigenvalue in every metric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError
from ssdtune.fisher.ratios import positive
from ssdtune.fisher.spectrum import Spectrum


@dataclass(frozen=True, eq=False)
class SpectralDamage:
    """Predicted loss changes; every field has one shape.

    *_first : ḡ_S · delta, signed. *_second : (1 / 2 n_S) Σ_i (g_i · delta)², by the whole Fisher matrix.
    """

    forget_first: Array
    forget_second: Array
    retain_first: Array
    retain_second: Array


@dataclass(frozen=True, eq=False)
class SampleSpace:
    """All that a spectral update needs to be foreseen: matrices over n_f + n_r + 2 rows.

    weighted, squared : A and B (N, N) float64, of forget rows, retain rows, ḡ_f and ḡ_r in this order.
    forget, retain : n_f and n_r. theta_norm : |theta|.
    spectrum : all eigenpairs of A_rr / n_r.
    rank : leading pairs in use; the others count as 0 in M, as where rows do not fit.
    """

    weighted: Array
    squared: Array
    forget: int
    retain: int
    theta_norm: float
    spectrum: Spectrum
    rank: int

    def coefficients(self, mu: ArrayLike, retain_weight: float) -> Array:
        """z (n_r, m) of each of m values of ``mu``: how much of each retain row the direction leaves out.

        Raises ConfigError unless every ``mu`` is above 0 and the weight at least 0.
        """
        values, vectors, seen = self._seen(retain_weight)
        mu = positive("mu", np.atleast_1d(mu))
        kept = np.arange(len(values)) < self.rank
        return vectors @ (np.where(kept, seen / self.retain, 0.0)[:, None] / (mu + values[:, None]))

    def plane(self, mu: ArrayLike, eta: ArrayLike, retain_weight: float = 0.0) -> SpectralDamage:
        """Damage at every (mu, eta), fields (m, k); a 64 x 64 plane of 1,000 rows takes milliseconds."""
        along, norm = self._along(mu, retain_weight)
        length = self.theta_norm * positive("eta", np.atleast_1d(eta)) / norm[:, None]
        first, second = self._moments(along)
        return SpectralDamage(
            forget_first=first["forget"][:, None] * length,
            forget_second=second["forget"][:, None] * length**2,
            retain_first=first["retain"][:, None] * length,
            retain_second=second["retain"][:, None] * length**2,
        )

    def eta_that_costs(self, increase: ArrayLike, mu: ArrayLike, retain_weight: float = 0.0) -> Array:
        """The eta (m,) whose predicted retain loss increase, first and second order, is ``increase``: a trust region.

        Where the direction lowers the retain loss at first, the larger root; infinite where nothing is ever lost.
        """
        along, norm = self._along(mu, retain_weight)
        first, second = (moments["retain"] for moments in self._moments(along))
        wanted = positive("increase", increase)
        root = np.sqrt(first**2 + 4 * second * wanted)
        with np.errstate(divide="ignore", invalid="ignore"):  # each form where it does not cancel
            length = np.where(first > 0, 2 * wanted / (first + root), (root - first) / (2 * second))
        return np.where(np.isnan(length), np.inf, length) * norm / self.theta_norm

    def rank_error(self, rank: int, mu: ArrayLike, retain_weight: float = 0.0) -> tuple[float, Array]:
        """(share of the trace of F_r that ``rank`` pairs miss, |d_rank - d| / |d| at each mu), to all pairs."""
        whole, part = (SampleSpace(**{**vars(self), "rank": k}) for k in (self.retain, rank))
        missing = part.coefficients(mu, retain_weight) - whole.coefficients(mu, retain_weight)
        own = self._own("retain")
        distance = np.sqrt(np.einsum("im,ij,jm->m", missing, self.squared[own, own], missing))
        values = self.spectrum.eigenvalues
        return float(values[rank:].sum() / values.sum()), distance / np.atleast_1d(mu) / whole._along(
            mu, retain_weight
        )[1]

    def _own(self, name: str) -> slice:
        starts = {"forget": 0, "retain": self.forget, "means": self.forget + self.retain}
        return slice(starts[name], {"forget": self.forget, "retain": starts["means"], "means": None}[name])

    def _seen(self, retain_weight: float) -> tuple[Array, Array, Array]:
        """(l, U, Uᵀ A_rm a)."""
        if not retain_weight >= 0:
            raise ConfigError(f"the retain weight must be at least 0, got {retain_weight}", "spectral")
        vectors = self.spectrum.vectors
        shifted = self.weighted[self._own("retain"), self._own("means")] @ np.array([1.0, -retain_weight])
        return self.spectrum.eigenvalues, vectors, vectors.T @ shifted

    def _along(self, mu: ArrayLike, retain_weight: float) -> tuple[Array, Array]:
        """(G d (N, m), |d| (m,))."""
        values, vectors, seen = self._seen(retain_weight)
        mu, z = np.atleast_1d(np.asarray(mu, float)), self.coefficients(mu, retain_weight)
        retain, means, a = self._own("retain"), self._own("means"), np.array([1.0, -retain_weight])
        along = ((self.weighted[:, means] @ a)[:, None] - self.weighted[:, retain] @ z) / mu
        kept = (np.arange(len(values)) < self.rank)[:, None]
        along[retain] = vectors @ (seen[:, None] / (mu + kept * values[:, None]))  # the same, but nothing cancels
        square = a @ self.squared[means, means] @ a - 2 * a @ self.squared[means, retain] @ z
        square += np.einsum("im,im->m", z, self.squared[retain, retain] @ z)
        return along, np.sqrt(np.maximum(square, np.finfo(float).tiny)) / mu

    def _moments(self, along: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """(ḡ_S · d, (1 / 2 n_S) Σ (g_i · d)²) of each set, (m,)."""
        first = dict(zip(("forget", "retain"), along[self._own("means")], strict=True))
        return first, {name: 0.5 * np.mean(along[self._own(name)] ** 2, axis=0) for name in first}
