"""Eigenvalues of Fisher matrices, exact through the Gram matrix.

Notation: G (n, P) gradient rows, F = (1/n) Gᵀ G. The nonzero eigenvalues of F are those of (1/n) K, K = G Gᵀ; if w
(n,) is a unit eigenvector of K/n with eigenvalue lambda, u = Gᵀ w / sqrt(n lambda) (P,) is the unit eigenvector of F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ssdtune.arrays import Array


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The eigenpairs of one Fisher matrix that its n gradients span.

    eigenvalues : (n,) float64, falling, none below 0.
    vectors : (n, n) float64, orthonormal columns in the space of the n samples.
    trace : Σ of all eigenvalues.
    """

    eigenvalues: Array
    vectors: Array
    trace: float


def spectrum_of_gram(gram: Array) -> Spectrum:
    """All eigenpairs of F from K = G Gᵀ (n, n) float64."""
    n = len(gram)
    values, vectors = scipy.linalg.eigh(gram / n)
    # K is positive semi-definite: what is below 0 is rounding
    return Spectrum(np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1]), float(np.trace(gram)) / n)
