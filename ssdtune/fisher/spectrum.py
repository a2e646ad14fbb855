"""Eigenvalues of Fisher matrices, exact through the Gram matrix.

Notation: G (n, P) gradient rows, F = (1/n) Gᵀ G. The nonzero eigenvalues of F are those of (1/n) K, K = G Gᵀ; if w
(n,) is a unit eigenvector of K/n with eigenvalue lambda, u = Gᵀ w / sqrt(n lambda) (P,) is the unit eigenvector of F.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from ssdtune.fisher.rows import Rows

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Leading eigenpairs of one Fisher matrix.

    Parameters
    ----------
    eigenvalues : (k,) float64, falling, none below 0.
    vectors : (n, k) float64, orthonormal columns in the space of the n samples; zero columns for zero eigenvalues
        found by Lanczos.
    trace : Σ of all eigenvalues, of which the k given may be a part.
    method : ``"gram"`` (all n of them) or ``"lanczos"`` (the leading k).
    """

    eigenvalues: Floats
    vectors: Floats
    trace: float
    method: Literal["gram", "lanczos"] = "gram"

    @property
    def samples(self) -> int:
        """n, the number of gradients behind it."""
        return len(self.vectors)

    @property
    def complete(self) -> bool:
        """Whether all nonzero eigenvalues are here."""
        return self.method == "gram"


def spectrum_of_gram(gram: Floats) -> Spectrum:
    """All eigenpairs of F from K = G Gᵀ (n, n) float64."""
    n = len(gram)
    values, vectors = scipy.linalg.eigh(gram / n)
    # K is positive semi-definite: what is below 0 is rounding
    return Spectrum(np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1]), float(np.trace(gram)) / n)


def parameter_vectors(rows: Rows, spectrum: Spectrum, k: int) -> NDArray[np.float32]:
    """Unit eigenvectors of F in parameter space for the k leading eigenvalues, (k, P) float32; zero where those are.

    One pass over the rows.
    """
    k = min(k, len(spectrum.eigenvalues))
    values = spectrum.eigenvalues[:k]
    floor = np.finfo(np.float64).eps * spectrum.samples * max(values.max(initial=0.0), np.finfo(np.float64).tiny)
    scale = np.where(values > floor, 1 / np.sqrt(spectrum.samples * np.maximum(values, floor)), 0.0)
    weights = torch.from_numpy(np.ascontiguousarray((spectrum.vectors[:, :k] * scale).T))
    found = torch.zeros(k, rows.parameters)
    for place, block in rows.blocks():
        found += (weights[:, place].to(block) @ block).cpu()
    return found.numpy()
