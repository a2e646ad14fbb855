"""What may be changed of a network's first input, and how large it is; a VarNet's is masked k-space."""

from __future__ import annotations

import torch
from torch import Tensor


def acquired(inputs: tuple[Tensor, ...]) -> Tensor:
    """1 where the first input was measured, 0 elsewhere (of a VarNet's k-space), in a shape that goes with it."""
    x = inputs[0]
    if len(inputs) > 1 and inputs[1].dtype == torch.bool:  # (B, C, H, W, 2) and its mask (B, 1, 1, W, 1)
        return inputs[1].to(x.dtype)
    return torch.ones_like(x[(slice(None), *[slice(0, 1)] * (x.dim() - 1))])


def rms(values: Tensor, where: Tensor) -> Tensor:
    """Root mean square of each slice's entries where ``where`` is 1, (B, 1, ...)."""
    dims = tuple(range(1, values.dim()))
    if not dims:
        return values.abs()
    count = where.expand_as(values).sum(dims, keepdim=True)
    return ((values * where).square().sum(dims, keepdim=True) / count.clamp_min(1)).sqrt()


def noise_like(inputs: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Inputs whose first one is Gaussian noise: k-space of the sample's rms line by line, else of its mean and standard
    deviation, within its range; inputs (batch, ...), and as they are."""
    x = inputs[0]
    z = torch.randn(x.shape, generator=generator).to(x)
    if len(inputs) > 1 and inputs[1].dtype == torch.bool:
        lines = x.square().mean(dim=(1, 2, 4), keepdim=True).sqrt()
        return z * lines, *inputs[1:]
    dims = tuple(range(1, x.dim()))
    std, mean = torch.std_mean(x, dims, keepdim=True)
    low, high = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    return torch.maximum(torch.minimum(mean + std * z, high), low), *inputs[1:]
