"""Selective Synaptic Dampening as a pure function (Foster, Schoepf & Brintrup, AAAI 2024, eqs. 3 and 4).

Notation, everywhere in ssdtune: theta (P,) parameters, f (P,) forget Fisher diagonal, o (P,) the denominator's Fisher
diagonal, r = f / o, alpha the selection threshold on r, lam the dampening constant:

    theta'_p = theta_p * min(lam / r_p, 1) ** exponent   where r_p > alpha,   else theta_p.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ssdtune.errors import ConfigError

_BLOCK = 1 << 16  # values: six vectors of them fit in a core's cache


def dampening_factors(f: Tensor, o: Tensor, alpha: float, lam: float, exponent: float = 1.0) -> Tensor:
    """Factor in [0, 1] for every parameter; 1 where the parameter is not selected.

    f, o : same shape, non-negative. Selection is ``f > alpha * o`` as published, so f = 0 is never selected and
    o = 0 < f always is (its factor is then 0: lam * o / f). Returns f's shape and dtype.
    """
    check_hyperparameters(alpha, lam, exponent)
    selected = f > alpha * o
    shrink = (lam * o / torch.where(selected, f, torch.ones_like(f))).clamp(max=1.0)
    if exponent != 1.0:
        shrink = shrink**exponent
    return torch.where(selected, shrink, torch.ones_like(f))


def dampen(
    params: Mapping[str, Tensor],
    f: Mapping[str, Tensor],
    o: Mapping[str, Tensor],
    alpha: float,
    lam: float,
    exponent: float = 1.0,
) -> dict[str, Tensor]:
    """Dampened copies of ``params``; nothing is mutated. ``f`` and ``o`` have the names and shapes of ``params``."""
    return {
        name: value.detach() * dampening_factors(f[name], o[name], alpha, lam, exponent).to(value.dtype)
        for name, value in params.items()
    }


def dampen_flat(theta: Tensor, f: Tensor, o: Tensor, alpha: float, lam: float, exponent: float = 1.0) -> Tensor:
    """``dampen`` of all parameters at once, as one flat vector: (P,) tensors in, a new (P,) tensor out.

    On a CPU it goes over the vectors in blocks that stay in the cache, so that each is read from memory once.
    """
    block = _BLOCK if theta.device.type == "cpu" else max(theta.numel(), 1)
    dampened = torch.empty_like(theta)
    for start in range(0, theta.numel(), block):
        part = slice(start, start + block)
        factors = dampening_factors(f[part], o[part], alpha, lam, exponent)
        torch.mul(theta[part], factors.to(theta.dtype), out=dampened[part])
    return dampened


def check_hyperparameters(alpha: float, lam: float, exponent: float = 1.0) -> None:
    """Raise ConfigError unless alpha > 0, lam > 0 and exponent > 0."""
    for name, value in (("alpha", alpha), ("lambda", lam), ("exponent", exponent)):
        if not value > 0:
            raise ConfigError(f"{name} must be positive, got {value}", todo="choose a value above 0")
