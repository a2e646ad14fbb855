"""Writing files whole or not at all, and naming content by its hash."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ssdtune.errors import DataError, SsdtuneError

if TYPE_CHECKING:
    import h5py


def cache_folder() -> Path:
    """Where what can be computed again is kept: ``SSDTUNE_CACHE``, else ssdtune's folder in the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("SSDTUNE_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("ssdtune"))


@contextmanager
def atomic_path(path: Path | str, error: type[SsdtuneError] = DataError) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` on success, remove it on any failure.

    Raises
    ------
    error : when the folder cannot be written or the disk is full; ``path`` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as reason:
        why = reason.strerror or str(reason).splitlines()[0]
        raise error(f"cannot write ({why})", path, "free space, or choose another --out") from reason


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to write. A full disk shows as a RuntimeError or a page of text in h5py: here as a plain OSError."""
    import h5py

    try:
        with h5py.File(path, "w") as file:
            yield file
    except (OSError, RuntimeError) as reason:
        named = re.search(r"errno = (\d+)", str(reason))
        if named is None and isinstance(reason, RuntimeError):
            raise  # not about the disk
        number = int(named[1]) if named else getattr(reason, "errno", None) or errno.EIO
        raise OSError(number, os.strerror(number)) from reason


def content_hash(parts: Iterable[bytes | memoryview | str]) -> str:
    """BLAKE2b (128 bit, hex) of the parts in order; each part is length-prefixed, so boundaries count."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        size = raw.nbytes if isinstance(raw, memoryview) else len(raw)
        digest.update(size.to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()
