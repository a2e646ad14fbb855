"""Where the paths of a study file lead on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, SerializationInfo, ValidationInfo

DATA = "SSDTUNE_DATA"
"""The folder that relative paths are taken from on this machine, if it is named."""


def _located(place: Any, info: ValidationInfo) -> Any:
    """A path or a text from the folder of the file that is read, ``~`` a home folder; as it is where none is."""
    if "\0" in str(place):
        raise ValueError("no path holds a zero byte")
    return type(place)(info.context["folder"] / os.path.expanduser(place)) if info.context else place  # noqa: PTH111


def _as_written(place: Any, info: SerializationInfo) -> str:
    """The other way; a path that does not start with the folder stays as it is."""
    folder = info.context["folder"] if info.context else None
    if folder is None or not Path(place).is_relative_to(folder):
        return str(place)
    written = str(Path(place).relative_to(folder))
    return f"./{written}" if written.startswith("~") else written


_Written = PlainSerializer(_as_written, when_used="json-unless-none")
Located = Annotated[Path, AfterValidator(_located), _Written]
Files = Annotated[str, AfterValidator(_located), _Written]


def data_folder(otherwise: Path | None) -> Path | None:
    """``SSDTUNE_DATA`` if it is set."""
    named = os.environ.get(DATA)
    return Path(named).absolute() if named else otherwise
