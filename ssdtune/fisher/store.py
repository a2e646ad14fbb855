"""A tree of arrays and plain values as one HDF5 file: written whole or not at all, nothing in it is ever executed.

Arrays are datasets with a checksum; everything else is JSON text in a dataset of its own.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ssdtune.errors import DataError
from ssdtune.files import atomic_path, new_hdf5
from ssdtune.fisher.layout import Layout
from ssdtune.untrusted import untrusted_fault

FORMAT = "ssdtune Fisher analysis"
FORMAT_VERSION = 2
"""Raised whenever a file's contents change their place or meaning; older ones are read (``SetAnalysis.of_tree``)."""

Tree = dict[str, Any]
"""Arrays, JSON values and trees, by name."""


def write_tree(path: Path | str, tree: Mapping[str, Any], kind: str = FORMAT) -> None:
    """Write a tree. Raises DataError: the file cannot be written."""
    with atomic_path(path) as temporary, new_hdf5(temporary) as file:
        file.attrs["format"], file.attrs["format_version"] = kind, FORMAT_VERSION
        _write(file, tree)


def read_tree(path: Path | str, kind: str = FORMAT, leave: Container[str] = ()) -> Tree:
    """Read a tree, but for the arrays that ``leave`` names.

    Raises DataError: the file is missing, truncated, damaged, or of another format or version.
    """
    redo = "give a file that ssdtune spectrum wrote, or analyse again"
    if not Path(path).is_file():
        raise DataError("no such file", path, "check the path, or analyse again")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != kind:
                what = f"not a {kind.removeprefix('ssdtune ')}"
                raise DataError(what, path, "give a file that ssdtune spectrum wrote")
            version = int(file.attrs["format_version"])
            if not 1 <= version <= FORMAT_VERSION:
                raise DataError(f"format version {version}, this ssdtune reads {FORMAT_VERSION}", path, redo)
            if (fault := untrusted_fault(file)) is not None:
                raise DataError(fault[0], path, redo)
            return _read(file, leave)
    except (OSError, KeyError, ValueError, RuntimeError) as reason:
        raise DataError(f"damaged or truncated ({str(reason).splitlines()[0]})", path, redo) from reason


def layout_tree(layout: Layout) -> Tree:
    """As ``layout_of`` reads it."""
    return {"names": layout.names, "shapes": layout.shapes, "dtypes": layout.dtypes}


def layout_of(tree: Tree) -> Layout:
    """The layout in a file's tree, as the function above writes it."""
    shapes = tuple(tuple(shape) for shape in tree["shapes"])
    return Layout(tuple(tree["names"]), shapes, tuple(tree["dtypes"]))


def _write(group: h5py.Group, tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            _write(group.create_group(name), value)
        elif isinstance(value, np.ndarray):
            # gradients hardly compress: lzf takes what there is at the speed of a disk
            filters = {"compression": "lzf", "shuffle": True, "fletcher32": True} if value.size else {}
            group.create_dataset(name, data=value, **filters)
        else:
            group.create_dataset(name, data=json.dumps(value))


def _read(group: h5py.Group, leave: Container[str] = ()) -> Tree:
    tree: Tree = {}
    for name, value in group.items():
        if value is None:  # its entry points nowhere
            raise KeyError(name)
        if name in leave:
            continue
        if isinstance(value, h5py.Group):
            tree[name] = _read(value, leave)
        elif h5py.check_string_dtype(value.dtype):
            tree[name] = json.loads(value[()])
        else:
            tree[name] = value[()]
    return tree
