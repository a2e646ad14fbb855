"""Large values of a study: compressed, in pieces that any database takes, under a name that holds their content's hash.

They lie among the study's system attributes, apart from what a list of studies reads and from what the dashboard shows.
A readable header among the user attributes says which pieces make the value: whoever wrote it last, a header and its
pieces always belong together.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import optuna

from ssdtune.errors import StorageError
from ssdtune.files import content_hash

PIECE = 2**15  # characters; MySQL's text ends at 65535 bytes
_HASH, _PIECES = "content", "pieces"


def storage_of(study: optuna.Study) -> optuna.storages.BaseStorage:
    """Where a study is kept: Optuna's own wrappers ask it so too, and names no other way."""
    return study._storage


def trial_id_of(trial: optuna.Trial) -> int:
    """What a storage calls a trial; likewise, as asking for it by study and number takes two transactions."""
    return trial._trial_id


def write_large(study: optuna.Study, name: str, value: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Keep ``value`` beside the readable ``header``, the study's user attribute ``name``."""
    text = base64.b85encode(zlib.compress(json.dumps(value).encode(), 9)).decode()
    digest = content_hash([text])
    storage = storage_of(study)
    study_id = storage.get_study_id_from_name(study.study_name)
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    for number, piece in enumerate(pieces):
        storage.set_study_system_attr(study_id, _key(digest, number), piece)
    study.set_user_attr(name, {**header, _HASH: digest, _PIECES: len(pieces)})


def read_large(study: optuna.Study, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(header, value) of what was last kept under ``name``; None if nothing was.

    Raises
    ------
    StorageError : pieces of it are gone.
    """
    attributes = study.user_attrs
    header = attributes.get(name)
    if header is None:
        return None
    if _HASH not in header:
        return _of_version_1(attributes, name)
    storage = storage_of(study)
    kept = storage.get_study_system_attrs(storage.get_study_id_from_name(study.study_name))
    text = "".join(kept.get(_key(header[_HASH], number), "") for number in range(header[_PIECES]))
    if content_hash([text]) != header[_HASH]:
        what = f"the study's '{name}' is incomplete"
        raise StorageError(what, f"study '{study.study_name}'", "restore the storage, or delete the study")
    return header, _unpacked(text)


def in_pieces(name: str, value: Mapping[str, Any], size: int = PIECE) -> dict[str, Any]:
    """``value`` under ``name``, or, where a database might not take it whole, its JSON text beside that, in pieces
    of ``size`` characters (about as many bytes)."""
    text = json.dumps(value)
    if len(text) <= size:
        return {name: value}
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    # the count comes last, so that it is there once all pieces are
    return {**{f"{name}:{number}": piece for number, piece in enumerate(pieces)}, name: {_PIECES: len(pieces)}}


def from_pieces(name: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What ``in_pieces`` made; empty where there is none."""
    kept: dict[str, Any] = attributes.get(name, {})
    if not isinstance(kept.get(_PIECES), int):
        return kept
    found: dict[str, Any] = json.loads("".join(attributes[f"{name}:{number}"] for number in range(kept[_PIECES])))
    return found


def same_content(header: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two headers are of the same value."""
    return (header or {}).get(_HASH) == (other or {}).get(_HASH)


def _of_version_1(attributes: Mapping[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Pieces were user attributes then, and those of two machines could mix; such a value counts as none."""
    pieces = range(attributes[name].get(_PIECES, 0))
    try:
        return attributes[name], _unpacked("".join(attributes[f"{name}:{number}"] for number in pieces))
    except (KeyError, ValueError, zlib.error):
        return None


def _unpacked(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b85decode(text)))
    return found


def _key(digest: str, number: int) -> str:
    return f"ssdtune:{digest}:{number}"
