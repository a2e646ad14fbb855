"""Where and how tensors are worked on: a device by name, refused when it is not there; float32 that is float32; memory
that is used again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """The device of this name (``cpu``, ``cuda``, ``cuda:1``, ``mps``), or ``auto``: a CUDA device if there is one.

    Raises ConfigError: no such kind of device, or it is not on this machine.
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


PRECISION = "float32"
"""What ``full_precision`` holds to, for records and cache keys."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Products and convolutions of float32 in float32: no TF32 on a GPU (which torch allows cuDNN by default), no
    TF32 or bfloat16 in oneDNN. Afterwards everything is as it was; other threads see the setting meanwhile.
    """
    import torch

    backends: Any = torch.backends
    places: list[Any] = [backends.cuda.matmul, backends.cudnn]
    name: str = "allow_tf32"
    exact: bool | str = False
    if hasattr(backends, "fp32_precision"):  # torch 2.9 on: one setting for each kind of work
        onednn, cudnn = backends.mkldnn, backends.cudnn
        places = [backends.cuda.matmul, cudnn.conv, cudnn.rnn, onednn.matmul, onednn.conv, onednn.rnn]
        name, exact = "fp32_precision", "ieee"
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, exact)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)


# mallopt(3): blocks above the first size are not taken from the heap; the heap grows by the second and never shrinks
_MMAP_THRESHOLD, _TOP_PAD, _TRIM_THRESHOLD = (-3, 2**27), (-2, 2**26), (-1, -1)
_LARGEST = (-3, 2**25)  # that older versions accept


@cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next tensors, where its C library is glibc; returns whether it does.

    Blocks of megabytes are else given back to the system and come again page by page, which on a CPU takes up to a
    third of the time of a network. What is kept goes back by ``trim_heap``.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or a system that has none to load so
        return False
    if not (mallopt(*_MMAP_THRESHOLD) or mallopt(*_LARGEST)):
        return False  # the others without it would keep its default, which is small
    return bool(mallopt(*_TOP_PAD) and mallopt(*_TRIM_THRESHOLD))


def trim_heap() -> None:
    """Give freed memory back to the system where the C library can (glibc keeps it for reuse, but chunks of another
    size find no use for it, so that it would pile up)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return
