"""Where tensors live: a device by name, refused when it is not there, and memory that is used again."""

from __future__ import annotations

import ctypes
from functools import cache
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


# mallopt(3): what a free block must have to go back to the system, and by how much the heap grows at once
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = (-1, 2**31 - 1), (-2, 2**26), (-3, 2**30)


@cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next tensors, where its C library is glibc; returns whether it does.

    Blocks of megabytes are else given back to the system and come again page by page, which on a CPU takes up to a
    third of the time of a network. The process then holds as much as it once had in use at the same time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or a system that has none to load so
        return False
    return all(mallopt(*setting) for setting in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD))
