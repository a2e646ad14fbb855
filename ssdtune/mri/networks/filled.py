"""A network from the tensors of an untrusted file, which may say one size and hold another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ssdtune.errors import ModelError

Network = TypeVar("Network", bound=nn.Module)


def filled(path: Path | str, build: Callable[[], Network], state: Any) -> Network:
    """The network that ``build`` makes, with the float32 tensors of a file; it takes no memory before they fit.

    Raises ModelError: they do not fit, or hold NaN or Inf.
    """
    try:
        with torch.device("meta"):
            network = build()
        network.load_state_dict(state, assign=True)
        sound = all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in network.state_dict().values())
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as reason:
        raise ModelError("its tensors are of another network than it says", path, "make it again") from reason
    if not sound:
        raise ModelError("its tensors are not finite float32", path, "make it again")
    return network
