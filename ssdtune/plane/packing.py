"""Arrays as JSON values: base64 of little-endian float32, with the shape."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pack(array: ArrayLike) -> dict[str, Any]:
    """A JSON object that holds ``array`` at float32 precision."""
    values = np.asarray(array)
    return {"shape": list(values.shape), "float32": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def unpack(packed: Mapping[str, Any]) -> NDArray[np.float64]:
    """Inverse of ``pack``. Raises KeyError, TypeError or ValueError where ``packed`` is no packed array."""
    return np.frombuffer(base64.b64decode(packed["float32"]), "<f4").reshape(packed["shape"]).astype(float)
