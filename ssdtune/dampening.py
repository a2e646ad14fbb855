"""Selective Synaptic Dampening as a pure function (Foster, Schoepf & Brintrup, AAAI 2024, eqs. 3 and 4).

Notation, everywhere in ssdtune: theta (P,) parameters, f (P,) forget Fisher diagonal, o (P,) the denominator's Fisher
diagonal, r = f / o, alpha the selection threshold on r, lam the dampening constant:

    theta'_p = theta_p * min(lam / r_p, 1) ** exponent   where r_p > alpha,   else theta_p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ssdtune.errors import ConfigError

_BLOCK = 1 << 16  # values: six vectors of them fit in a core's cache


def ratio(f: Tensor, o: Tensor) -> Tensor:
    """r = f / o in the diagonals' precision: 0 where f = 0, inf where o = 0 < f. The one r that everything compares."""
    return torch.where(f > 0, f / o, 0.0)


def rounded_down(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest numbers of ``dtype`` that are not above ``value`` (float64).

    ``r > rounded_down(alpha, r.dtype)`` is r > alpha itself, for every float64 alpha and every r of that type: what is
    selected, wherever that is asked. (The published code compares f > alpha * o, whose rounding would move a parameter
    within an ulp of alpha away from where its ratio is sorted.)
    """
    near = value.to(dtype)
    return torch.where(near > value, torch.nextafter(near, torch.full_like(near, -math.inf)), near)


def dampening_factors(f: Tensor, o: Tensor, alpha: float, lam: float, exponent: float = 1.0) -> Tensor:
    """Factor in [0, 1] for every parameter; 1 where the parameter is not selected.

    f, o : same shape, non-negative. A parameter is selected if r > alpha, so one with f = 0 never is, and one with
    o = 0 < f always (its factor is then 0). At exponent 1 the factor is below 1 exactly where r > max(alpha, lam).
    Returns f's shape and dtype. Raises ConfigError unless alpha, lam and exponent are above 0.
    """
    for name, value in (("alpha", alpha), ("lambda", lam), ("exponent", exponent)):
        if not value > 0:
            raise ConfigError(f"{name} must be positive, got {value}", todo="choose a value above 0")
    r = ratio(f, o)
    threshold, constant = rounded_down(torch.tensor([alpha, lam], dtype=torch.float64), r.dtype)
    shrink = (constant / r).clamp(max=1.0)  # of two tensors: a number over a tensor would be number * (1 / tensor)
    if exponent != 1.0:
        shrink = shrink**exponent
    return torch.where(r > threshold, shrink, 1.0)


def dampen(
    params: Mapping[str, Tensor],
    f: Mapping[str, Tensor],
    o: Mapping[str, Tensor],
    alpha: float,
    lam: float,
    exponent: float = 1.0,
) -> dict[str, Tensor]:
    """Dampened copies of ``params`` by name, in their shapes (any) and dtypes; nothing is mutated.

    ``f`` and ``o`` : Fisher diagonals of the forget and the retain set, names and shapes of ``params``. ``alpha`` : the
    threshold on r = f / o, above 0. ``lam`` : the dampening constant, above 0. ``exponent`` : of the dampening, 1 as
    published (Foster et al., AAAI 2024, equation at the head of this file).
    """
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
