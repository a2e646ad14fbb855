"""Large JSON values in a study, compressed and in pieces that any database takes."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import optuna

_PIECE_LENGTH = 2**15  # MySQL's text ends at 65535 bytes


def write_packed(study: optuna.Study, name: str, value: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Keep ``value`` as the attributes ``NAME:0``, ``NAME:1``, ... and, last, ``NAME``: ``facts`` in plain JSON values,
    which marks it as whole."""
    packed = base64.b85encode(zlib.compress(json.dumps(value).encode(), 9)).decode()
    pieces = [packed[at : at + _PIECE_LENGTH] for at in range(0, len(packed), _PIECE_LENGTH)]
    for number, piece in enumerate(pieces):
        study.set_user_attr(f"{name}:{number}", piece)
    study.set_user_attr(name, {**facts, "pieces": len(pieces)})


def is_piece(name: str) -> bool:
    """Whether an attribute of this name is a piece of a packed value, which says nothing to a reader."""
    return re.fullmatch(r"\w+:\d+", name) is not None


def read_packed(study_attributes: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What ``write_packed`` kept; None if there is nothing whole of that name."""
    if name not in study_attributes:
        return None
    packed = "".join(study_attributes[f"{name}:{number}"] for number in range(study_attributes[name]["pieces"]))
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b85decode(packed)))
    return found
