"""Objects sent to other processes so that their large arrays lie in shared memory, once a machine.

Ray's store hands arrays to every process of a machine as views of the same memory, not to be written to; tensors it
would copy for each. Here both are taken out of the pickle, tensors of a GPU too, which arrive on the process's own.
"""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CACHED: type[Any] = type(cache(len))

SHARED = 2**16
"""Bytes of an array from which on it is shared; smaller ones are copied, and may be written to."""


@dataclass(frozen=True)
class Parcel:
    """A pickle and the arrays, (bytes,) uint8, that are not within it."""

    pickled: bytes
    arrays: list[np.ndarray]


def pack(value: Any) -> Parcel:
    """Raises what pickling it raises: TypeError or PicklingError for what cannot be sent."""
    from ray.cloudpickle import CloudPickler

    arrays: list[np.ndarray] = []

    class Packer(CloudPickler):  # type: ignore[misc]
        def reducer_override(self, given: Any) -> Any:
            if type(given) is Tensor and not given.requires_grad and given.layout is torch.strided:
                values: Any = given.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                return _tensor, (pickle.PickleBuffer(values), given.dtype, tuple(given.shape), given.device.type)
            if isinstance(given, _CACHED):  # which pickle by name alone, so not those of a function within another
                return cache, (given.__wrapped__,)
            return super().reducer_override(given)

    def stays(buffer: pickle.PickleBuffer) -> bool:
        data = buffer.raw()
        if data.nbytes >= SHARED:
            arrays.append(np.frombuffer(data, np.uint8))
        return data.nbytes < SHARED

    file = io.BytesIO()
    Packer(file, protocol=5, buffer_callback=stays).dump(value)
    return Parcel(file.getvalue(), arrays)


def unpack(parcel: Parcel) -> Any:
    """What was packed; its large arrays are views of the parcel's."""
    return pickle.loads(parcel.pickled, buffers=parcel.arrays)


def _tensor(data: Any, dtype: torch.dtype, shape: tuple[int, ...], device: str) -> Tensor:
    if 0 in shape:
        return torch.empty(shape, dtype=dtype, device=device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(data, dtype=dtype).reshape(shape).to(device)
