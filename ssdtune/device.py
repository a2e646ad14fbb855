"""Where tensors live: a device by name, refused when it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """The device of this name (``cpu``, ``cuda``, ``cuda:1``, ``mps``), or ``auto``: a CUDA device if there is one.

    Raises
    ------
    ConfigError : no such kind of device, or it is not on this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as reason:
        raise ConfigError("no such kind of device", name, "use auto, cpu, cuda, cuda:N or mps") from reason
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type, 0)
    if (device.index or 0) >= there:
        has = f"this machine has {there}" if there else "this machine has none"
        raise ConfigError(f"no such {device.type} device ({has})", name, "use another --device, e.g. cpu")
    return device
