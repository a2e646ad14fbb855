"""Where studies live: any SQLAlchemy URL through Optuna's RDBStorage; every failure is one line."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from ssdtune.errors import StorageError

DEFAULT_URL = "sqlite:///ssdtune.db"
VARIABLE = "SSDTUNE_STORAGE"

SQLITE_TIMEOUT = 120
"""Seconds that a writer waits for another process's lock on one SQLite file."""

_SECRET = re.compile(r"pass|pwd|secret|token|odbc_connect", re.IGNORECASE)  # names of what drivers take in a query

_LOCAL_DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"}

HEARTBEAT, GRACE = 30, 180
"""Seconds between the signs of life of a running trial, and without one before it counts as lost."""


def storage_url(url: str | None = None) -> str:
    """The given URL, else ``SSDTUNE_STORAGE``, else ``sqlite:///ssdtune.db`` in the working folder."""
    return url or os.environ.get(VARIABLE) or DEFAULT_URL


def shown(url: str | None = None) -> str:
    """The URL as it may be printed: without a password."""
    try:
        return _shown(make_url(storage_url(url)))
    except (ArgumentError, ValueError):
        before_query = storage_url(url).partition("?")[0]
        return re.sub(r"//.*@", "//***@", before_query)


def _shown(parsed: URL) -> str:
    hidden = {name: "hidden" for name in parsed.query if _SECRET.search(name)}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def open_storage(
    url: str | None = None, *, create: bool = False, kind: type[optuna.storages.RDBStorage] = optuna.storages.RDBStorage
) -> optuna.storages.RDBStorage:
    """Open a storage as a ``kind``; only ``create`` may make a new database, whole or not at all, or tables in one.

    Raises
    ------
    StorageError : bad URL, missing driver, nothing there, no permission, no Optuna storage, or one of another version.
    """
    parsed = _parse(url)
    if not create:
        _check_present(parsed)
    connect_args = {"timeout": SQLITE_TIMEOUT} if parsed.get_backend_name() == "sqlite" else {}
    with storage_errors(shown(url)), _whole_or_none(parsed), warnings.catch_warnings():
        # The heartbeat is marked experimental; it is what finds the lost trials of another machine.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return kind(
                storage_url(url),
                engine_kwargs={"connect_args": connect_args},
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                skip_table_creation=not create,
            )
        except RuntimeError as reason:  # tables of another Optuna version
            raise StorageError(f"cannot open storage ({_why(reason)})", shown(url), _todo(reason)) from reason


@contextmanager
def _whole_or_none(parsed: URL) -> Iterator[None]:
    """Remove a new SQLite file that could not be finished."""
    new = parsed.get_backend_name() == "sqlite" and not _sqlite_file_exists(parsed)
    try:
        yield
    except BaseException:
        if new and _sqlite_file_exists(parsed):
            Path(str(parsed.database)).unlink(missing_ok=True)
        raise


@contextmanager
def quick_commits(storage: optuna.storages.RDBStorage) -> Iterator[None]:
    """Let an SQLite file on a local disk keep a write-ahead log meanwhile, so that a commit need not wait for the disk.

    A crash of the machine then loses the last commits at most, and never more than a trial. Afterwards the file is as
    any other again, unless another process still has it open. Nothing changes for other databases, or where the file
    lies on a network, whose file systems a write-ahead log does not work on.
    """
    engine = storage.engine
    database = engine.url.database
    if engine.url.get_backend_name() != "sqlite" or not database or not is_local(Path(database)):
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


def storage_exists(url: str | None = None) -> bool:
    """Whether there is a storage at the URL; a URL that cannot be opened at all raises StorageError."""
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite" and not _sqlite_file_exists(parsed):
        return False
    return _has_studies(parsed)


def check_new_name(name: str, url: str | None = None) -> None:
    """Refuse a study name that is taken, before any long work; makes nothing.

    Raises
    ------
    StorageError : the name is taken, or the storage could not be written.
    """
    if not storage_exists(url):
        _check_writable(_parse(url))
    elif name in study_names(open_storage(url)):
        raise duplicate(name, shown(url))


def duplicate(name: str, where: str = "") -> StorageError:
    todo = "choose another --name, or delete it first with: ssdtune study delete " + name
    return StorageError(f"study '{name}' exists already", where, todo)


def study_names(storage: optuna.storages.BaseStorage) -> list[str]:
    """Names of all studies, in order of creation."""
    with storage_errors():
        return optuna.study.get_all_study_names(storage)


def load_study(name: str, storage: optuna.storages.BaseStorage, url: str | None = None) -> optuna.Study:
    """One study by name; ``url`` is where the storage was opened.

    Raises
    ------
    StorageError : there is none; the nearest names are given.
    """
    names = study_names(storage)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            todo = "did you mean " + " or ".join(f"'{other}'" for other in near) + "?"
        else:
            todo = "ssdtune study list shows what is there" if names else "create one with: ssdtune study create"
        raise StorageError(f"no study '{name}'", shown(url), todo)
    with storage_errors(shown(url)):
        return optuna.load_study(study_name=name, storage=storage)


@contextmanager
def storage_errors(where: str = "") -> Iterator[None]:
    """Turn what SQLAlchemy raises about the storage, through Optuna or not, into a StorageError.

    ``where`` is the storage as it may be printed, if it is known here.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as reason:
        raise StorageError(f"storage failed ({_why(reason)})", where, _todo(reason)) from reason
    except UnboundLocalError as reason:  # Optuna's, where it can neither end a trial nor read it
        if not isinstance(reason.__context__, optuna.exceptions.StorageInternalError):
            raise
        first = reason.__context__
        raise StorageError(f"storage failed ({_why(first)})", where, _todo(first)) from first


def _why(reason: BaseException) -> str:
    """First line of the database's own words."""
    if isinstance(reason, optuna.exceptions.StorageInternalError) and reason.__cause__ is not None:
        reason = reason.__cause__
    if isinstance(reason, DBAPIError) and reason.orig is not None:
        reason = reason.orig
    lines = str(reason).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(reason).__name__


def _todo(reason: BaseException) -> str:
    text = _why(reason).lower()
    if "compatible" in text:
        return "upgrade it with: optuna storage upgrade --storage URL"
    if "not a database" in text:
        return "give the URL of an Optuna database"
    return "check the URL and its permissions"


def _parse(url: str | None) -> URL:
    try:
        parsed = make_url(storage_url(url))
        dialect = parsed.get_dialect()
    except (SQLAlchemyError, ValueError) as reason:  # the second for a port that is no number
        todo = f"give an SQLAlchemy URL such as {DEFAULT_URL}"
        raise StorageError("not a storage URL", shown(url), todo) from reason
    try:
        dialect.import_dbapi()
    except ImportError as reason:
        raise StorageError(
            f"the database's driver is missing ({reason})", shown(url), "install it with pip"
        ) from reason
    return parsed


def _check_present(parsed: URL) -> None:
    text = _shown(parsed)
    if parsed.get_backend_name() == "sqlite" and not _sqlite_file_exists(parsed):
        raise StorageError("no storage there", text, "create a study first, or give --storage")
    if not _has_studies(parsed):
        raise StorageError("no studies table in this database", text, "create a study first, or give --storage")


def _has_studies(parsed: URL) -> bool:
    """Whether the database has Optuna's tables; never makes any."""
    with storage_errors(_shown(parsed)):
        engine = sqlalchemy.create_engine(parsed)
        try:
            return sqlalchemy.inspect(engine).has_table("studies")
        finally:
            engine.dispose()


def _sqlite_file_exists(parsed: URL) -> bool:
    in_memory = parsed.database in (None, "", ":memory:")
    return not in_memory and Path(str(parsed.database)).is_file()


def _check_writable(parsed: URL) -> None:
    """Refuse an SQLite file that could not be made or would not be kept, without making it."""
    if parsed.get_backend_name() != "sqlite":
        return
    if parsed.database in (None, "", ":memory:"):
        where = _shown(parsed)
        raise StorageError("in memory, so that the study would be lost at once", where, "give another --storage")
    file = Path(str(parsed.database)).absolute()
    if file.is_dir():
        raise StorageError("is a folder, not a database", file, "give another --storage")
    folder = file.parent
    if not folder.is_dir():
        raise StorageError("folder does not exist", folder, "make it, or give another --storage")
    if not os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise StorageError("no permission to write", folder, "give another --storage")


def quiet_optuna() -> None:
    """Keep Optuna's own log lines out of a command's output."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
