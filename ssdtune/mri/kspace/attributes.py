"""Numbers, texts and masks of an HDF5 file in whatever form other programs store them.

Attributes come as Python or NumPy scalars of either byte order, arrays of one value, bytes, or empty; masks as
booleans, integers, floats or h5py's enumerations, with axes of length one around the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SUBJECT = "patient_id"


def number(value: Any) -> float | None:
    """The one finite real number that an attribute holds, else None (a text of digits is no number)."""
    try:
        values = np.asarray(value)
        found = float(values.reshape(-1)[0]) if values.size == 1 and values.dtype.kind in "fiu" else None
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found is not None and np.isfinite(found) else None


def text(value: Any) -> str:
    """An attribute as text: bytes are UTF-8, arrays of one value count as that value, nothing is ""."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    if isinstance(value, np.ndarray):
        return text(value.reshape(-1)[0]) if value.size == 1 else " ".join(map(text, value.reshape(-1)))
    nothing = value is None or type(value).__name__ == "Empty" or value != value  # NaN says no subject
    return "" if nothing else str(value).strip()


def is_text(value: Any) -> bool:
    """Whether an attribute holds text, which a number in quotation marks is too."""
    return np.asarray(value).dtype.kind in "SUO"


def subject(attributes: Mapping[str, Any]) -> str:
    """The subject whom a file says that it shows; "" if it does not say."""
    return text(attributes.get(SUBJECT))


def sampled_columns(values: Any, columns: int) -> np.ndarray | str:
    """A stored mask as (columns,) bool, or why it is none, in words."""
    mask = np.asarray(values)
    if mask.size != columns or max(mask.shape, default=0) != columns:
        return f"has shape {mask.shape}, not ({columns},)"
    if mask.dtype.kind not in "bfiu":
        return f"is {mask.dtype}, not numbers"
    mask = mask.reshape(-1)
    if not np.isin(mask, (0, 1)).all():
        return "holds other values than 0 and 1"
    if not mask.any():
        return "samples no line"
    # fastMRI takes the unbroken run of lines around the middle for the centre, from which sensitivities are estimated
    return mask.astype(bool) if mask[columns // 2] else "does not sample the middle line"
