"""A storage in a file that goes away while it is used: SQLite would write on into one that nobody finds again, and a
journal into a new one without what was before."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages.journal import JournalFileBackend

from ssdtune.errors import StorageError


def keep_to_file(engine: sqlalchemy.Engine, file: Path) -> None:
    """Have the engine of an SQLite file raise StorageError, and write nothing, once it is another file or none."""
    check = _check_of(file)
    for moment in ("do_connect", "commit"):  # a new connection would make a new file
        sqlalchemy.event.listen(engine, moment, check)


class KeptJournal(JournalFileBackend):
    """Optuna's journal in a file; to read and to append raise StorageError once it is another file or none."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self._check = _check_of(file)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        self._check()
        return super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._check()
        super().append_logs(logs)


def _check_of(file: Path) -> Callable[..., None]:
    first = _identity(file)

    def check(*_: Any) -> None:
        if _identity(file) != first:
            raise StorageError(
                "removed or replaced while in use", file, "put it back and run again: what it has is kept"
            )

    return check


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
