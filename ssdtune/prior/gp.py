"""Gaussian processes around an ensemble of mean surfaces, with basis functions that tie the outputs together.

Notation: n known and c test settings; J outputs (retained, remembered); M ensemble members; q basis surfaces; z
coordinates in decades. For member m and output j

    y_j(x) = mu_mj(x) + sum_i beta_i phi_ij(x) + a_j(x) g_j(z) + noise_j,    beta ~ N(0, I_q) shared by all outputs,
    g_j a unit Matern-5/2 process with length scales ell_j (2,), a_j(x) its amplitude.

With K_j the covariance of a_j g_j + noise_j at the n settings, L_j its Cholesky factor, H_j = phi_j there (q, n),
r_mj = y_j - mu_mj, and A = I + sum_j H_j K_j^-1 H_j^T:

    beta_m = A^-1 sum_j H_j K_j^-1 r_mj,       mean_j* = mu_mj* + phi_j*^T beta_m + k_j*^T K_j^-1 (r_mj - H_j^T beta_m),
    R_j = phi_j* - H_j K_j^-1 k_j*,            cov_ij* = [i = j] (a_j*^2 - k_j*^T K_j^-1 k_j*) + R_i^T A^-1 R_j.

All members share the factors; they differ by their mean alone, so the data weigh them at the cost of a matrix product.
Source: Rasmussen & Williams, Gaussian Processes for Machine Learning, eqs. 2.30 (evidence), 2.39-2.42 (basis functions
with a Gaussian prior), 4.17 (Matern).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

Array = NDArray[np.float64]

_JITTER = 1e-10


class Field(NamedTuple):
    """All that is known of n settings beforehand.

    z : (n, 2) coordinates. mean : (M, J, n). basis : (q, J, n), scaled to unit coefficients. amplitude : (J, n).
    """

    z: Array
    mean: Array
    basis: Array
    amplitude: Array


class Kernel(NamedTuple):
    """Residual process: ``lengths`` (J, 2) in decades; ``scale`` multiplies the amplitudes."""

    lengths: Array
    scale: float = 1.0


class Prediction(NamedTuple):
    """Posterior of the noise-free outputs: mean (M, J, c); cov (J, J, c), shared by all members."""

    mean: Array
    cov: Array


def matern52(a: Array, b: Array, lengths: Array) -> Array:
    """Unit Matern-5/2 covariance (n, c) of points (n, 2) and (c, 2) with length scales (2,)."""
    scaled_a, scaled_b = a / lengths, b / lengths
    squared = (scaled_a**2).sum(1)[:, None] + (scaled_b**2).sum(1)[None] - 2 * scaled_a @ scaled_b.T
    distance = np.sqrt(5 * np.maximum(squared, 0))
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


def residual_covariance(a: Field, b: Field, kernel: Kernel, j: int) -> Array:
    """(n, c) covariance of a_j g_j between settings ``a`` and ``b``."""
    amplitudes = kernel.scale**2 * a.amplitude[j][:, None] * b.amplitude[j][None]
    return np.asarray(amplitudes * matern52(a.z, b.z, kernel.lengths[j]))


@dataclass(frozen=True, eq=False)
class _Factors:
    """Cholesky factors at a set of settings: L_j, L_j^-1 H_j^T (n, q) and the factor of A."""

    at: Field
    lower: list[Array]
    basis: list[Array]
    gram: Array

    @classmethod
    def of(cls, at: Field, noise: Array, kernel: Kernel) -> _Factors:
        lower = [
            cholesky(residual_covariance(at, at, kernel, j) + np.diag(sd**2 + _JITTER), lower=True, check_finite=False)
            for j, sd in enumerate(noise)
        ]
        basis = [_solve(factor, at.basis[:, j].T) for j, factor in enumerate(lower)]
        inner = np.eye(len(at.basis)) + sum(each.T @ each for each in basis)
        return cls(at, lower, basis, cholesky(inner, lower=True, check_finite=False) if inner.size else inner)


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """The process given its data; one set of factors serves every member and every prediction.

    log_evidence : (M,) log marginal likelihood of each member.
    """

    log_evidence: Array
    _kernel: Kernel
    _data: Field
    _weights: Array
    _beta: Array
    _known: _Factors

    @classmethod
    def fit(
        cls,
        data: Field,
        y: Array,
        noise: Array,
        kernel: Kernel,
        pending: Field | None = None,
        pending_noise: float = 0.01,
    ) -> GaussianProcess:
        """Condition on observations.

        y : (J, n), or (M, J, n) where members see different values. noise : (J, n) sd.
        pending : settings under way. They are taken to come out as predicted: the mean stays, the variance shrinks.
        """
        factors = _Factors.of(data, noise, kernel)
        residual = np.broadcast_to(y, data.mean.shape) - data.mean
        white = [_solve(factor, residual[:, j].T) for j, factor in enumerate(factors.lower)]
        projected = sum((b.T @ w for b, w in zip(factors.basis, white, strict=True)), np.zeros(1))
        half = _solve(factors.gram, np.asarray(projected))
        beta = _solve(factors.gram, half, transposed=True)
        rest = [w - b @ beta for b, w in zip(factors.basis, white, strict=True)]
        weights = np.stack([_solve(lo, r, transposed=True) for lo, r in zip(factors.lower, rest, strict=True)])
        misfit = sum((w**2).sum(0) for w in white) - (half**2).sum(0)
        log_det = sum(np.log(np.diag(factor)).sum() for factor in [*factors.lower, factors.gram])
        log_evidence = -0.5 * misfit - log_det - 0.5 * y.shape[-2] * y.shape[-1] * np.log(2 * np.pi)
        if pending is not None and len(pending.z):
            both = Field(
                *(np.concatenate(pair, axis=i and -1) for i, pair in enumerate(zip(data, pending, strict=True)))
            )
            under_way = np.full((len(noise), len(pending.z)), pending_noise)
            factors = _Factors.of(both, np.concatenate([noise, under_way], axis=1), kernel)
        return cls(log_evidence, kernel, data, weights, beta, factors)

    def predict(self, test: Field) -> Prediction:
        """Posterior at ``test``."""
        n, outputs = len(self._data.z), len(self._weights)
        mean = test.mean + np.einsum("qm,qjc->mjc", self._beta, test.basis)
        cov = np.zeros((outputs, outputs, len(test.z)))
        spread = []
        for j in range(outputs):
            cross = residual_covariance(self._known.at, test, self._kernel, j)
            mean[:, j] += self._weights[j].T @ cross[:n]
            v = _solve(self._known.lower[j], cross)
            cov[j, j] = np.maximum((self._kernel.scale * test.amplitude[j]) ** 2 - (v**2).sum(0), 0)
            spread.append(_solve(self._known.gram, test.basis[:, j] - self._known.basis[j].T @ v))
        for i in range(outputs):
            for j in range(outputs):
                cov[i, j] += (spread[i] * spread[j]).sum(0)
        return Prediction(mean, cov)


def _solve(lower: Array, right: Array, transposed: bool = False) -> Array:
    if not right.size or not lower.size:
        return right.copy()
    return np.asarray(solve_triangular(lower, right, lower=True, trans=int(transposed), check_finite=False))
