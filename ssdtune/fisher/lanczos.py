"""Leading eigenpairs by Lanczos on Fisher-vector products, for more samples than a Gram matrix can hold.

Notation as in ``spectrum``: F v = (1/n) Σ_i g_i (g_i · v), one pass over the rows a product. ARPACK's implicitly
restarted Lanczos method (Lehoucq, Sorensen & Yang, 1998) through ``scipy.sparse.linalg.eigsh``.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from ssdtune.errors import ConfigError
from ssdtune.fisher.rows import Rows
from ssdtune.fisher.spectrum import Floats, Spectrum


def fisher_vector_product(rows: Rows, vector: NDArray) -> NDArray:
    """F v for v (P,), in v's dtype; one pass over the rows."""
    total = torch.zeros(rows.parameters, dtype=torch.float64)
    for _, block in rows.blocks():
        dots = block @ torch.from_numpy(vector).to(block)
        total += (dots @ block).cpu()
    return (total / len(rows)).numpy().astype(vector.dtype)


def lanczos_spectrum(rows: Rows, k: int, trace: float, *, memory: float = 2.0**30, seed: int = 0) -> Spectrum:
    """The k leading eigenpairs of F; ``trace`` is that of all of it (the sum of its diagonal).

    The basis of 2 k + 1 vectors of P parameters is held in float64 where ``memory`` bytes allow, else in float32,
    which leaves eigenvalues good to about 1e-6 of the largest.

    Raises
    ------
    ConfigError : the basis does not fit, or k is not below P.
    """
    size = rows.parameters
    k = min(k, len(rows))
    if not 0 < k < size - 1:
        raise ConfigError(f"Lanczos finds 1 to {size - 2} of {size} eigenvalues, not {k}", todo='use spectrum="gram"')
    basis = min(size, max(2 * k + 1, 20))
    dtype = np.float64 if 8 * (basis + k) * size <= memory else np.float32
    needed = np.dtype(dtype).itemsize * (basis + k) * size
    if needed > memory:
        what = f"{k} eigenvectors of {size:,} parameters need {needed / 2**30:.1f} GiB"
        raise ConfigError(what, "Lanczos", "raise memory_budget or ask for fewer eigenvalues")
    operator = LinearOperator((size, size), matvec=lambda v: fisher_vector_product(rows, v.ravel()), dtype=dtype)
    start = np.random.default_rng(seed).standard_normal(size).astype(dtype)
    values, vectors = eigsh(operator, k=k, which="LA", ncv=basis, v0=start)
    return Spectrum(
        np.maximum(values[::-1].astype(np.float64), 0.0), _in_samples(rows, vectors[:, ::-1]), trace, "lanczos"
    )


def _in_samples(rows: Rows, vectors: NDArray) -> Floats:
    """Unit sample-space vectors G u / |G u| of parameter-space ones (P, k)."""
    found = np.zeros((len(rows), vectors.shape[1]))
    columns = torch.from_numpy(np.ascontiguousarray(vectors))
    for place, block in rows.blocks():
        found[place] = (block @ columns.to(block)).double().cpu().numpy()
    norms = np.linalg.norm(found, axis=0)
    return found / np.where(norms > 0, norms, 1.0)
