"""Where and how tensors are worked on: a device by name, refused when it is not there; float32 that is float32; memory
that is used again."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
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


THREAD_SLACK = 1.05
"""Fewer threads are taken where they need at most this much longer: they leave more to others."""

_BLOCK, _ROUNDS = 0.03, 15  # seconds that a short work is repeated for; rounds at most
_HOPELESS = 3  # times as long as the best


def thread_choices() -> list[int]:
    """1, half and all of the cores that this process may use, rising."""
    may = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted({1, max(len(may) // 2, 1), len(may)})


def set_threads(number: int) -> None:
    """Threads of torch, and of the linear algebra behind NumPy, in this process from now on.

    For programs such as the command line; nothing in the library calls it.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(number)
    threadpool_limits(number, user_api="blas")


def time_threads(
    work: Callable[[], object], seconds: float = 2.0, clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Median seconds that ``work`` takes with each of ``thread_choices``, rising; the threads are then as before.

    The choices take turns, so that what else the machine does meets all of them alike, until about ``seconds`` have
    passed; the first turn does not count where there are more. A choice that is hopeless in it gets no second one.
    """
    import torch

    before = torch.get_num_threads()
    times: dict[int, list[float]] = {number: [] for number in thread_choices()}
    try:
        started = clock()
        for _ in range(_ROUNDS + 1):
            for number, found in times.items():
                if not found or found[0] <= _HOPELESS * min(each[0] for each in times.values() if each):
                    torch.set_num_threads(number)
                    found.append(_seconds_of(work, clock))
            if clock() - started > seconds:
                break
    finally:
        torch.set_num_threads(before)
    counted = {number: sorted(found[1:] or found) for number, found in times.items()}
    return {number: found[len(found) // 2] for number, found in counted.items()}


def fewest_good_threads(times: Mapping[int, float]) -> int:
    """The fewest threads that take at most ``THREAD_SLACK`` times as long as the best."""
    best = min(times.values())
    return min(number for number, taken in times.items() if taken <= THREAD_SLACK * best)


def _seconds_of(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds a call, of as many calls as it takes to fill a block."""
    started, calls = clock(), 0
    while not calls or clock() - started < _BLOCK:
        work()
        calls += 1
    return (clock() - started) / calls
