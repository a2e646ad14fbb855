"""The mapper's networks: an ensemble of small perceptrons with a latent vector for what no input tells of a task.

Notation: x local inputs (nodes, L), u global inputs (U,), z latent (D,), e gate (nodes,); all standardised. Network b:

    y(x, u, z) = 1 - e * (V_b h2 + c_b),   h2 = silu(W2_b h1 + b2_b),   h1 = silu(Wx_b x + Wu_b u + Wz_b z + b1_b)

y = (retained, forget ratio), unclipped: both are 1 where nothing changes (e = 0), whatever the weights. Tasks with the
same inputs differ in how much damage they stand; z holds that. It is learned with the weights, one vector a training
task under a normal prior, and drawn anew for a task that has not been seen: the draws are the ensemble's members.
Source of the latent: auto-decoder, Park et al. 2019 (DeepSDF), eq. 9; random effects in mixed models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdtune.arrays import Array

ARRAYS = ("local", "global_", "latent", "bias1", "hidden", "bias2", "out", "bias3")


@dataclass(frozen=True, eq=False)
class Networks:
    """Weights of B networks with H hidden units: local (B, L, H), global_ (B, U, H), latent (B, D, H), bias1 (B, H),
    hidden (B, H, H), bias2 (B, H), out (B, H, 2), bias3 (B, 2)."""

    local: Array
    global_: Array
    latent: Array
    bias1: Array
    hidden: Array
    bias2: Array
    out: Array
    bias3: Array

    def __len__(self) -> int:
        return len(self.bias1)

    def __call__(self, local: Array, global_: Array, latent: Array, gate: Array) -> Array:
        """(B, S, nodes, 2) for local (nodes, L), global_ (U,), latent (B, S, D) and gate (nodes,)."""
        kind = np.float32
        nodes = np.einsum("nl,blh->bnh", local.astype(kind), self.local.astype(kind), optimize=True)
        task = np.einsum("u,buh->bh", global_, self.global_) + self.bias1
        draws = np.einsum("bsd,bdh->bsh", latent, self.latent) + task[:, None]
        found = np.empty((*latent.shape[:2], len(local), 2))
        for b in range(len(self)):
            first = _silu(nodes[b][None] + draws[b][:, None].astype(kind))
            second = _silu(first @ self.hidden[b].astype(kind) + self.bias2[b].astype(kind))
            found[b] = second @ self.out[b].astype(kind) + self.bias3[b].astype(kind)
        return 1 - gate[:, None] * found


def _silu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = x / (1 + np.exp(-np.clip(x, -60, 60)))
    return found
