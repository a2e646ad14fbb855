"""Writing files whole or not at all, and naming content by its hash."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssdtune.errors import ConfigError, DataError, SsdtuneError
from ssdtune.untrusted import untrusted_fault

if TYPE_CHECKING:
    import h5py


def cache_folder() -> Path:
    """Where what can be computed again is kept: ``SSDTUNE_CACHE``, else ssdtune's folder in the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("SSDTUNE_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("ssdtune"))


def check_writable(*paths: Path | None, error: type[SsdtuneError] = DataError) -> None:
    """Refuse files that could not be written, before the work that ends in them; makes nothing.

    Raises
    ------
    error : what would be the folder of one is no folder, or may not be written to, or there is a device or a pipe.
    """
    for path in map(_written, filter(None, paths)):
        if is_special(path):
            raise _unwritable(path, _SPECIAL, error)
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise _unwritable(path, os.strerror(errno.ENOTDIR), error)
        if not may_write(folder):
            raise _unwritable(path, os.strerror(errno.EACCES), error)


def may_write(folder: Path | str) -> bool:
    """Whether this process may make files in a folder that is there."""
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def check_apart(inputs: Iterable[Path], outputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over what is read, into a folder that is read as a whole, or one file twice; makes nothing.

    inputs : files, and folders all of whose files are read. outputs : by what they are, such as the option's name.

    Raises ConfigError.
    """
    read, written = {path.resolve() for path in inputs}, dict[Path, str]()
    for what, path in outputs.items():
        if path is None:
            continue
        own = path.resolve()
        if own in read:
            raise ConfigError(f"{path} is read here", what, "name another file")
        if own.parent in read:
            raise ConfigError(f"{path} would be in a folder that is read here", what, "name a file elsewhere")
        if own in written:
            raise ConfigError(f"{path} is already that of {written[own]}", what, "name another file")
        written[own] = what


def empty_folder(out: Path | str) -> Path:
    """The absolute path of a folder to be made, which may be there if it is empty; raises ConfigError otherwise."""
    out = Path(os.path.realpath(out))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "the output folder is not empty" if out.is_dir() else "a file, not a folder"
        raise ConfigError(what, out, "choose another --out")
    return out


@contextmanager
def atomic_path(path: Path | str, error: type[SsdtuneError] = DataError) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` on success, remove it on any failure.

    What is made there is a file, or a folder, which may take the place of an empty one. A link stays a link: what it
    leads to is written.

    Raises
    ------
    error : when the folder cannot be written or the disk is full; ``path`` is then as it was before. A device or a pipe
        is refused: it would be replaced.
    """
    path = _written(Path(path))
    if is_special(path):
        raise _unwritable(path, _SPECIAL, error)
    temporary = path.with_name(f".{path.name[:60]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
    except OSError as reason:
        why = reason.strerror or str(reason).splitlines()[0]
        raise _unwritable(path, why, error) from reason


_SPECIAL = "a device or a pipe, not a file"


def is_special(path: Path) -> bool:
    """Whether there is a device, a pipe or a socket, neither a file nor a folder; never raises."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))  # noqa: PTH110, PTH112, PTH113


def _written(path: Path) -> Path:
    """Where a path leads if it is a link to a file, there or not; else as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) and not is_special(path) else path  # noqa: PTH114


def _unwritable(path: Path, why: str, error: type[SsdtuneError]) -> SsdtuneError:
    return error(f"cannot write ({why})", path, "free space, or choose another --out")


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read. Raises DataError where it cannot be read, also later on."""
    import h5py

    try:
        with h5py.File(path) as file:
            fault = untrusted_fault(file)
            if fault is not None:
                raise DataError(fault[0], path, fault[1])
            yield file
    except OSError as reason:
        what, todo = hdf5_trouble(path, reason)
        raise DataError(what, path, todo) from reason


@contextmanager
def new_hdf5(path: Path, libver: str | None = None) -> Iterator[h5py.File]:
    """An HDF5 file to write; a full disk is an OSError at its end. libver : the oldest HDF5 that is to read it, such as
    ``v110``, whose chunked datasets need 3 kB less each."""
    import h5py

    with _Disk(path, "w+") as disk:
        try:
            with h5py.File(disk, "w", libver=libver) as file:
                yield file
        finally:
            if disk.failure is not None:  # also the cause of whatever else went wrong, as HDF5 reads what it wrote
                raise disk.failure


class _Disk(io.FileIO):
    """The file that h5py writes to, which keeps its first failure to itself and loses what is written from then on.

    HDF5 cannot let go of a dataset that it failed to write: each prints a traceback, and the process ends in a crash.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        size = len(data)
        try:
            while len(data) and self.failure is None:
                data = data[super().write(data) :]
        except OSError as reason:
            self.failure = reason
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """To ``size`` bytes, as ``io.FileIO`` does."""
        try:
            return super().truncate(size) if self.failure is None else size or 0
        except OSError as reason:
            self.failure = reason
            return size or 0


def content_hash(parts: Iterable[bytes | memoryview | str]) -> str:
    """BLAKE2b (128 bit, hex) of the parts in order; each part is length-prefixed, so boundaries count."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        size = raw.nbytes if isinstance(raw, memoryview) else len(raw)
        digest.update(size.to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


def hdf5_trouble(path: Path, reason: BaseException) -> tuple[str, str]:
    """(what, what to do) for an HDF5 file that cannot be opened or read: locked, not closed, damaged or none at all."""
    import h5py

    said = str(reason).lower()
    if "unable to lock" in said or getattr(reason, "errno", None) in (errno.EAGAIN, errno.ENOLCK):
        what = "another process has the file open for writing, or its file system knows no locks"
        return what, "close it there, or set HDF5_USE_FILE_LOCKING=FALSE if nobody writes to it"
    if "already open for" in said or "h5clear" in said:
        what = "the file is open for writing elsewhere, or was not closed after writing"
        return what, "close it there, or run h5clear -s on it"
    kind = "damaged HDF5 file" if h5py.is_hdf5(path) else "not an HDF5 file"
    return f"{kind} ({_cause(reason)})", "copy or download it again"


def _cause(reason: BaseException) -> str:
    """The cause in an HDF5 message, which stands in its last parenthesis, or the first line of another message."""
    line = (str(reason) or type(reason).__name__).splitlines()[0]
    return line[line.rfind("(") + 1 :].rstrip(")").split(",")[0] if line.endswith(")") else line
