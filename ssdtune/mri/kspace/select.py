"""The files of each set of a study: those that it names, or those of them whose header says so.

A condition such as ``receiverChannels = 16`` is about ``coils``, those of the k-space itself, about an element of the
ISMRMRD header, by its name or by as much of its path as tells it from others (``encodedSpace/matrixSize/x``), or about
an attribute of the file (``acquisition``). Values are compared as numbers where both are, else as texts.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py

from ssdtune.errors import DataError, nearest
from ssdtune.files import opened_hdf5
from ssdtune.mri.kspace.attributes import text
from ssdtune.mri.kspace.find import find_files
from ssdtune.places import Selected, parse_condition
from ssdtune.studyfile import DataSection

EARLIER = "earlier_"
SETS = ("retain", "forget", "retain_heldout", "unknown", "unseen")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def set_files(data: DataSection) -> dict[str, list[Path]]:
    """The files of every set that a study names, by key, in a fixed order.

    Those of ``data.earlier`` are called ``earlier_NAME``.

    A set that is selected takes its files out of the retain set, of which they are unless it names others.

    Raises
    ------
    DataError : see ``find_files``; a header that cannot be read, a field that no file has or that is not the only one
        of its name, a condition that holds for no file, and a retain set of which nothing is left.
    """
    found: dict[str, list[Path]] = {}
    taken: set[Path] = set()
    specs = {name: spec for name in SETS if (spec := getattr(data, name)) is not None}
    specs |= {f"{EARLIER}{name}": spec for name, spec in (data.earlier or {}).items()}
    for name, spec in specs.items():
        try:
            if isinstance(spec, Selected):
                files = find_files(spec.files) if spec.files is not None else found["retain"]
                found[name] = _matching(files, spec.header)
                taken |= set() if name == "retain" else {file.resolve() for file in found[name]}
            else:
                found[name] = find_files(spec)
        except DataError as reason:
            raise DataError(f"{name} set: {reason.what}", reason.where, reason.todo) from reason
    found["retain"] = [file for file in found["retain"] if file.resolve() not in taken]
    if not found["retain"]:
        raise DataError("retain set: every file was selected for another set", str(data.retain), "name more files")
    return found


def _matching(files: list[Path], condition: str) -> list[Path]:
    name, sign, wanted = parse_condition(condition)
    values = {file: _field(file, name) for file in files}
    if all(value is None for value in values.values()):
        known = sorted({short for file in files[:1] for short in fields_of(file)})
        todo = nearest(name, known) or f"there are {', '.join(known)}"
        raise DataError(f"no file has a field '{name}'", files[0], todo)
    chosen = [file for file, value in values.items() if value is not None and _holds(value, sign, wanted)]
    if not chosen:
        there = ", ".join(sorted({value for value in values.values() if value is not None})[:8])
        raise DataError(f"'{condition}' holds for none of {len(files)} files", files[0].parent, f"there are {there}")
    return chosen


def fields_of(path: Path) -> dict[str, str]:
    """What can be asked for in a file: paths of header elements, attributes, and ``coils``.

    Raises DataError: the file cannot be read, or its header is no XML.
    """
    from ssdtune.mri.kspace.look import HEADER, KSPACE  # scipy comes with it, and commands look at study files first

    with opened_hdf5(path) as file:
        found = {key: text(value) for key, value in file.attrs.items()}
        if HEADER in file:
            found |= _elements(file[HEADER][()], path)
        kspace = file.get(KSPACE)
        if isinstance(kspace, h5py.Dataset):
            found["coils"] = str(kspace.shape[1] if kspace.ndim == 4 else 1)
    return found


def _elements(header: Any, path: Path) -> dict[str, str]:
    """Text of every leaf by its path below the root, the first of each."""
    try:
        root = ElementTree.fromstring(text(header))
    except ElementTree.ParseError as reason:
        raise DataError(f"its ISMRMRD header is not valid ({reason})", path, "repair the header") from reason
    found: dict[str, str] = {}

    def walk(element: ElementTree.Element, above: str) -> None:
        for child in element:
            place = f"{above}/{child.tag.rpartition('}')[2]}".lstrip("/")
            if len(child):
                walk(child, place)
            else:
                found.setdefault(place, (child.text or "").strip())

    walk(root, "")
    return found


def _field(path: Path, name: str) -> str | None:
    values: Mapping[str, str] = fields_of(path)
    if name in values:
        return values[name]
    ends = [key for key in values if key.endswith(f"/{name}")]
    if len(ends) > 1:
        raise DataError(f"'{name}' may be {' or '.join(ends)}", path, "write more of its path")
    return values[ends[0]] if ends else None


def _holds(value: str, sign: str, wanted: str) -> bool:
    try:
        return _COMPARE[sign](float(value), float(wanted))
    except ValueError:
        return _COMPARE[sign](value, wanted)
