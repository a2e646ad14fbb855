"""Mixed precision where it is safe: fastMRI's U-Nets in bfloat16, FFTs and data consistency in float32.

Autocast over a whole VarNet would hand complex FFTs numbers of half precision, which they cannot take. Weights,
gradients and the optimiser stay float32, and bfloat16 has float32's range, so that no loss has to be scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from fastmri.models import Unet
from torch import nn

from ssdtune.errors import ConfigError


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError for mixed precision where it gains nothing or cannot be had."""
    if precision == "float32":
        return
    if device.type != "cuda":
        raise ConfigError(f"{precision} on {device.type}", "--precision", "mixed precision needs a CUDA GPU")
    if not torch.cuda.is_bf16_supported():
        raise ConfigError(f"this GPU has no {precision}", "--precision", "use float32")


@contextmanager
def mixed_precision(model: nn.Module, precision: str) -> Iterator[None]:
    """Compute the U-Nets of ``model`` in ``precision`` meanwhile; float32 changes nothing."""
    nets = [module for module in model.modules() if isinstance(module, Unet)] if precision != "float32" else []
    dtype = getattr(torch, precision)
    for net in nets:
        net.forward = partial(_cast, net.forward, dtype)
    try:
        yield
    finally:
        for net in nets:
            del net.forward  # the class's own again


def _cast(forward: Any, dtype: torch.dtype, image: torch.Tensor) -> torch.Tensor:
    with torch.autocast(image.device.type, dtype):
        output: torch.Tensor = forward(image)
    return output.float()
