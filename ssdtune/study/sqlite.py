"""What SQLite files need: never half made, and commits that need not wait for the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from ssdtune.errors import StorageError
from ssdtune.study.storage_url import database_file

_LOCAL_DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"}


@contextmanager
def whole_or_none(file: Path | None) -> Iterator[None]:
    """Remove a new file that could not be finished."""
    new = file is not None and not file.is_file()
    try:
        yield
    except BaseException:
        if new and file is not None and file.is_file():
            file.unlink(missing_ok=True)
        raise


@contextmanager
def quick_commits(storage: optuna.storages.BaseStorage) -> Iterator[None]:
    """Let an SQLite file on a local disk keep a write-ahead log meanwhile, so that a commit need not wait for the disk.

    A crash of the machine then loses the last commits at most, and never more than a trial. Afterwards the file is as
    any other again, unless another process still has it open. Nothing changes for other databases, or where the file
    lies on a network, whose file systems a write-ahead log does not work on.
    """
    engine = getattr(storage, "engine", None)
    file = database_file(engine.url) if engine is not None else None
    if engine is None or engine.dialect.name != "sqlite" or file is None or not is_local(file):
        yield
        return

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")

    _set_journal(engine, "WAL")
    sqlalchemy.event.listen(engine, "connect", relax)
    try:
        yield
    finally:
        sqlalchemy.event.remove(engine, "connect", relax)
        with suppress(StorageError):  # the file is gone, which whoever wrote last was told
            _set_journal(engine, "DELETE")


def _set_journal(engine: sqlalchemy.Engine, mode: str) -> None:
    """Change an SQLite file's journal if no other process is using it; its connections are made anew."""
    engine.dispose()
    with suppress(SQLAlchemyError), engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
        connection.exec_driver_sql(f"PRAGMA journal_mode={mode}")
    engine.dispose()


def is_local(path: Path) -> bool:
    """Whether a file lies on a local disk, as far as the system tells (Linux does); False where it does not."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    above = {str(folder) for folder in (path.absolute(), *path.absolute().parents)}
    kinds = [kind for place, kind in mounts if place in above and place == max(above & {p for p, _ in mounts}, key=len)]
    return bool(kinds) and kinds[-1] in _LOCAL_DISKS
