"""What an HDF5 file from elsewhere may do: lead to other files, and expand to what no machine can hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

MOST_OBJECTS = 10_000
LARGEST_ITEM = 2**32
"""Bytes of what is read at once: one slice with all its coils, or a chunk."""

_EXPANDS = 200, 2**28  # times its stored size, from so many bytes on; k-space does not compress by half

_COPY = "copy the file with all its data in it: h5repack"

Fault = tuple[str, str]


def untrusted_fault(file: h5py.File) -> Fault | None:
    """(what, what to do) for the first thing in an open file that is refused unread; None for a sound one.

    Links and virtual datasets that lead to other files, datasets kept in other files, object references, more groups
    than anything real has, and datasets that are far larger than what is stored of them.
    """
    import h5py

    for count, (name, item) in enumerate(_objects(file)):
        if count > MOST_OBJECTS:
            return f"more than {MOST_OBJECTS} groups and datasets", "keep one scan a file"
        if isinstance(item, str):
            return f"'{name}' {item}", _COPY
        types = [(name, item.id.get_type())] if isinstance(item, h5py.Dataset) else []
        attributes = [item.attrs.get_id(each) for each in item.attrs]
        if len(attributes) > MOST_OBJECTS:
            return f"'{name}' has more than {MOST_OBJECTS} attributes", "leave them out"
        types += [(f"{name} {each.name.decode(errors='replace')}", each.get_type()) for each in attributes]
        for where, kind in types:
            if kind.detect_class(h5py.h5t.REFERENCE):
                return f"'{where}' holds object references", "write what they lead to, or leave it out"
            if kind.detect_class(h5py.h5t.TIME):
                return f"'{where}' is of HDF5's time type, which NumPy does not know", "write a number, or leave it out"
        what = _dataset_fault(item) if isinstance(item, h5py.Dataset) else ""
        if what:
            return f"'{name}' {what}", _COPY
    return None


def _objects(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """The file, every group and dataset once, and every link to another file as words; links within are not
    followed."""
    import h5py

    yield "/", file
    left: list[tuple[str, Any]] = [("", file)]
    seen = set()
    while left:
        path, group = left.pop()
        for name in group:
            here = f"{path}/{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield here, "is a link to another file"
            if not isinstance(link, h5py.HardLink):
                continue
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                left.append((here, found))
            yield here, found


def _dataset_fault(dataset: h5py.Dataset) -> str:
    if dataset.is_virtual and any(source.file_name != "." for source in dataset.virtual_sources()):
        return "is virtual and takes its data from another file"
    if dataset.external:
        return "keeps its data in another file"
    size = dataset.size * dataset.dtype.itemsize if dataset.size else 0
    item = size // max(len(dataset), 1) if dataset.ndim else size
    chunk = dataset.dtype.itemsize
    for side in dataset.chunks or ():
        chunk *= side
    if max(item, chunk) > LARGEST_ITEM:
        return f"has {max(item, chunk) / 2**30:.0f} GiB a slice"
    times, least = _EXPANDS
    if size > least and size > times * max(dataset.id.get_storage_size(), 1):
        return f"expands to {size / 2**30:.1f} GiB, far more than is stored of it"
    return ""
