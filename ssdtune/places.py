"""Where the paths of a study file lead on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, PlainValidator, SerializationInfo, ValidationInfo

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


@dataclass(frozen=True)
class Selected:
    """Files by a condition on their header, such as ``receiverChannels = 16``; None: those of the retain set."""

    header: str
    files: str | None = None

    def __str__(self) -> str:
        return f"{self.files or 'retain'} where {self.header}"


def parse_condition(condition: str) -> tuple[str, str, str]:
    """(field, sign, value) of a condition; raises ValueError where it is none."""
    found = re.fullmatch(r"\s*([\w./-]+)\s*(=|!=|<=|>=|<|>)\s*(\S.*?)\s*", condition)
    if not found:
        raise ValueError(f"no condition ('{condition}'), write one such as \"receiverChannels = 16\"")
    return found[1], found[2], found[3].strip("'\"")


def _source(given: Any, info: ValidationInfo) -> str | Selected:
    if isinstance(given, Selected):
        return given
    if isinstance(given, str):
        return str(_located(given, info))
    if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
        raise ValueError('give a text, or a table {header = "FIELD = VALUE"}')
    if "header" not in given or set(given) - {"header", "files"}:
        raise ValueError('a table takes header = "FIELD = VALUE", and files where they are not the retain set\'s')
    parse_condition(given["header"])
    files = given.get("files")
    if files is None and info.field_name == "retain":
        raise ValueError("the retain set is selected of files: name them, as files")
    return Selected(given["header"], None if files is None else str(_located(files, info)))


def _source_as_written(source: str | Selected, info: SerializationInfo) -> Any:
    if isinstance(source, str):
        return _as_written(source, info)
    files = {} if source.files is None else {"files": _as_written(source.files, info)}
    return {"header": source.header, **files}


Source = Annotated[
    str | Selected, PlainValidator(_source), PlainSerializer(_source_as_written, when_used="json-unless-none")
]
"""Files by a text, as ``Files``, or by a condition on their header."""


def data_folder(otherwise: Path | None) -> Path | None:
    """``SSDTUNE_DATA`` if it is set."""
    named = os.environ.get(DATA)
    return Path(named).absolute() if named else otherwise
