"""Gaussian processes around an ensemble of mean surfaces, with basis functions and correlated residuals.

Notation: n known and c test settings; J = 2 outputs (retained, remembered); M ensemble members; q basis surfaces; z
coordinates in decades. For member m and output j

    y_j(x) = mu_mj(x) + sum_i beta_i phi_ij(x) + a_j(x) g_j(z) + noise_j,    beta ~ N(0, I_q) shared by all outputs,
    g_1 = u_1,  g_2 = rho u_1 + sqrt(1 - rho^2) u_2,    u_k unit Matern-5/2 processes with length scales ell_k (2,),

and a_j(x) the amplitude: a task that stands less than was foreseen does so in both outputs. Outputs are stacked, output
by output: K the (Jn, Jn) covariance of residuals and noise, L its Cholesky factor, H = phi there (q, Jn),
r_m = y - mu_m, A = I + H K^-1 H^T:

    beta_m = A^-1 H K^-1 r_m,            mean* = mu_m* + phi*^T beta_m + k*^T K^-1 (r_m - H^T beta_m),
    R = phi* - H K^-1 k*,                cov* = k** - k*^T K^-1 k* + R^T A^-1 R.

All members share the factors; they differ by their mean alone, so the data weigh them at the cost of a matrix product.
Source: Rasmussen & Williams, Gaussian Processes for Machine Learning, eqs. 2.30 (evidence), 2.39-2.42 (basis functions
with a Gaussian prior), 4.17 (Matern); linear coregionalisation: Alvarez, Rosasco & Lawrence 2012, eq. 19.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtrs

from ssdtune.arrays import Array

_JITTER = 1e-10
_PENDING_NOISE = 0.01


class Field(NamedTuple):
    """All that is known of n settings beforehand.

    z : (n, 2) coordinates. mean : (M, J, n). basis : (q, J, n), scaled to unit coefficients. amplitude : (J, n).
    """

    z: Array
    mean: Array
    basis: Array
    amplitude: Array


class Kernel(NamedTuple):
    """Residual process: ``lengths`` (J, 2) in decades; ``scale`` multiplies the amplitudes; ``correlation`` of the two
    outputs' residuals at one setting."""

    lengths: Array
    scale: float = 1.0
    correlation: float = 0.0

    @property
    def mixing(self) -> Array:
        """(J, J) lower triangular: g = mixing u."""
        return np.array([[1.0, 0.0], [self.correlation, np.sqrt(1 - self.correlation**2)]])


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


def residual_covariance(a: Field, b: Field, kernel: Kernel) -> Array:
    """(J n, J c) covariance of the residuals a_j g_j between settings ``a`` and ``b``."""
    first = matern52(a.z, b.z, kernel.lengths[0])
    second = first if (kernel.lengths[0] == kernel.lengths[1]).all() else matern52(a.z, b.z, kernel.lengths[1])
    left, right = (kernel.scale * each.amplitude for each in (a, b))
    blocks = np.empty((2, len(a.z), 2, len(b.z)))
    for i, own in enumerate(kernel.mixing):
        for j, other in enumerate(kernel.mixing):
            blocks[i, :, j] = (own[0] * other[0] * first + own[1] * other[1] * second) * left[i, :, None] * right[j]
    return blocks.reshape(left.size, right.size)


class Told(NamedTuple):
    """What some settings tell of c others: ``cross`` (J n, J c) covariances, ``white`` L^-1 of them, and ``explained``
    (J, J, c), the covariance that they take away. Members, and readings of one surface, share it."""

    cross: Array
    white: Array
    explained: Array


def _stacked(values: Array) -> Array:
    """(..., J, n) as (..., J n)."""
    return values.reshape(*values.shape[:-2], values.shape[-2] * values.shape[-1])


@dataclass(frozen=True, eq=False)
class Residuals:
    """The Cholesky factor L of the covariance K of residuals and noise at some settings, (J n, J n)."""

    lower: Array

    @classmethod
    def of(cls, covariance: Array, noise: Array) -> Residuals:
        """covariance : of the residuals, (J n, J n). noise : (J, n) sd."""
        covariance = covariance.copy()
        covariance.flat[:: len(covariance) + 1] += noise.ravel() ** 2 + _JITTER
        return cls(np.asarray(np.linalg.cholesky(covariance), float))

    @cached_property
    def inverse(self) -> Array:
        """Of L: many products with it are quicker than as many triangular solves."""
        return _solve(self.lower, np.eye(len(self.lower)))


@dataclass(frozen=True, eq=False)
class _Factors:
    """Cholesky factors at a set of settings: of the residuals, L^-1 H^T (J n, q) and the factor of A."""

    at: Field
    residuals: Residuals
    basis: Array
    gram: Array

    @classmethod
    def of(cls, at: Field, residuals: Residuals) -> _Factors:
        basis = _solve(residuals.lower, _stacked(at.basis).T)
        inner = np.eye(len(at.basis)) + basis.T @ basis
        return cls(at, residuals, basis, np.asarray(np.linalg.cholesky(inner), float))


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """The process given its data; one set of factors serves every member and every prediction.

    log_evidence : (M,) log marginal likelihood of each member.
    """

    log_evidence: Array
    _kernel: Kernel
    _beta: Array
    _white: Array
    _fitted: _Factors
    _known: _Factors

    @classmethod
    def fit(
        cls,
        data: Field,
        y: Array,
        noise: Array,
        kernel: Kernel,
        pending: Field | None = None,
        residuals: Residuals | None = None,
    ) -> GaussianProcess:
        """Condition on observations.

        y : (J, n), or (M, J, n) where members see different values. noise : (J, n) sd.
        pending : running settings. They are taken to come out as predicted: the mean stays, the variance shrinks.
        residuals : those at ``data``, if at hand.
        """
        own = residuals or Residuals.of(residual_covariance(data, data, kernel), noise)
        factors = fitted = _Factors.of(data, own)
        residual = np.broadcast_to(y, data.mean.shape) - data.mean
        white = _solve(own.lower, _stacked(residual).T)
        half = _solve(factors.gram, factors.basis.T @ white)
        beta = _solve(factors.gram, half, transposed=True)
        misfit = (white**2).sum(0) - (half**2).sum(0)
        log_det = np.log(np.diag(own.lower)).sum() + np.log(np.diag(factors.gram)).sum()
        log_evidence = -0.5 * misfit - log_det - 0.5 * noise.size * np.log(2 * np.pi)
        if pending is not None and len(pending.z):
            both = Field(
                *(np.concatenate(pair, axis=i and -1) for i, pair in enumerate(zip(data, pending, strict=True)))
            )
            believed = np.full((len(noise), len(pending.z)), _PENDING_NOISE)
            together = np.concatenate([noise, believed], axis=1)
            factors = _Factors.of(both, Residuals.of(residual_covariance(both, both, kernel), together))
        return cls(log_evidence, kernel, beta, white, fitted, factors)

    def take(self, members: NDArray[np.intp]) -> GaussianProcess:
        """That of some members alone, in their order."""
        kept = {name: getattr(self, name)[..., members] for name in ("log_evidence", "_beta", "_white")}
        return replace(self, **kept)

    @cached_property
    def _weights(self) -> Array:
        """(M, J, n): of the cross covariances in the mean; solved for when first asked, as few members are."""
        rest = _solve(self._fitted.residuals.lower, self._white - self._fitted.basis @ self._beta, transposed=True)
        return np.moveaxis(rest.reshape(*self._fitted.at.amplitude.shape, rest.shape[1]), 2, 0)

    def covariance(self, test: Field) -> Array:
        """Of the residuals where something is known, pending settings last, and at ``test``: (J n, J c)."""
        return residual_covariance(self._known.at, test, self._kernel)

    def told(self, cross: Array) -> Told:
        """Of ``covariance(test)``."""
        white = self._known.residuals.inverse @ cross
        outputs = len(self._kernel.mixing)
        parts = white.reshape(len(white), outputs, cross.shape[1] // outputs)
        return Told(cross, white, np.einsum("pic,pjc->ijc", parts, parts))

    def predict(self, test: Field, told: Told | None = None) -> Prediction:
        """Posterior at ``test``; ``told`` : of it, if at hand."""
        (outputs, n), c = self._fitted.at.amplitude.shape, len(test.z)
        told = self.told(self.covariance(test)) if told is None else told
        mean = test.mean + np.einsum("qm,qjc->mjc", self._beta, test.basis)
        cross = told.cross.reshape(outputs, len(self._known.at.z), outputs, c)[:, :n]  # pending settings move no mean
        mean += np.einsum("min,injc->mjc", self._weights, cross, optimize=True)
        here = self._kernel.scale * test.amplitude
        cov = np.einsum("ik,jk,ic,jc->ijc", self._kernel.mixing, self._kernel.mixing, here, here) - told.explained
        if len(test.basis):
            spread = _solve(self._known.gram, _stacked(test.basis) - self._known.basis.T @ told.white)
            spread = spread.reshape(len(spread), outputs, c)
            cov += np.einsum("pic,pjc->ijc", spread, spread)
        for j in range(outputs):
            cov[j, j] = np.maximum(cov[j, j], 0)
        return Prediction(mean, cov)


def _solve(lower: Array, right: Array, transposed: bool = False) -> Array:
    if not right.size or not lower.size:
        return right.copy()
    # LAPACK itself, which takes the transpose of a C-ordered matrix as it lies: solve_triangular's checks take longer
    return np.asarray(dtrtrs(lower.T, right, lower=0, trans=int(not transposed))[0])
