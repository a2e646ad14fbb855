"""Where studies live: Optuna's storages by URL; every failure is one line."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ssdtune.errors import StorageError, nearest
from ssdtune.study.hanging import ANSWER, WatchedPool, limit_calls
from ssdtune.study.kept_file import KeptJournal, keep_to_file
from ssdtune.study.sqlite import is_local, quick_commits, whole_or_none
from ssdtune.study.storage_url import GRPC, JOURNAL, SQLITE, database_file, parse, shown, shown_url, storage_url

__all__ = ["is_local", "quick_commits", "shown", "storage_url"]

SQLITE_TIMEOUT = 120
"""Seconds that a writer waits for another process's lock on one SQLite file."""

CONNECT_TIMEOUT = 10
"""Seconds that a server has to accept a connection."""

HEARTBEAT, GRACE = 30, 180
"""Seconds between the signs of life of a running trial, and without one before it counts as lost."""


def open_storage(
    url: str | None = None, *, create: bool = False, kind: type[RDBStorage] = RDBStorage, pre_ping: bool = False
) -> BaseStorage:
    """Open a storage, a database as a ``kind``; only ``create`` may make a new one, whole or not at all.

    pre_ping : ask a server first, each time, whether a connection is still good; for what lives long and does not wait
    as ``patience`` does.

    Raises
    ------
    StorageError : bad URL, missing driver, nothing there, no permission, no Optuna storage, or one of another version.
    """
    parsed = parse(url)
    if not create:
        _check_present(parsed)
    file = database_file(parsed)
    with storage_errors(shown(url)), whole_or_none(file), warnings.catch_warnings():
        # Heartbeat, journal and proxy are marked experimental; the first finds the lost trials of another machine.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if parsed.drivername == GRPC:
            return _open_proxy(str(parsed.host), int(parsed.port or 0))
        if parsed.drivername == JOURNAL and file is not None:
            return JournalStorage(KeptJournal(file))
        try:
            opened = kind(
                parsed.render_as_string(hide_password=False),
                engine_kwargs=_engine_options(parsed, pre_ping),
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                skip_table_creation=not create,
            )
        except RuntimeError as reason:  # tables of another Optuna version
            raise _of_another_version(reason, shown(url)) from reason
        if parsed.get_backend_name() == SQLITE and file is not None:
            keep_to_file(opened.engine, file)
        return opened


def _engine_options(parsed: URL, pre_ping: bool = False) -> dict[str, Any]:
    if parsed.get_backend_name() == SQLITE:
        return {"connect_args": {"timeout": SQLITE_TIMEOUT}}
    options: dict[str, Any] = {"pool_pre_ping": pre_ping}
    if parsed.get_driver_name() in ("psycopg", "psycopg2"):
        options |= {"connect_args": {"connect_timeout": CONNECT_TIMEOUT}, "poolclass": WatchedPool}
    elif parsed.get_driver_name() in ("pymysql", "mysqldb"):
        limits = {"read_timeout": round(ANSWER), "write_timeout": round(ANSWER)}
        options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT, **limits}
    return options


def _open_proxy(host: str, port: int) -> GrpcStorageProxy:
    socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()  # gRPC tries on where nobody listens
    proxy = GrpcStorageProxy(host=host, port=port)
    proxy.wait_server_ready(timeout=CONNECT_TIMEOUT)
    limit_calls(proxy)
    return proxy


def storage_exists(url: str | None = None) -> bool:
    """Whether there is a storage at the URL; a URL that cannot be opened at all raises StorageError."""
    parsed = parse(url)
    if parsed.drivername == GRPC:
        return True
    file = database_file(parsed)
    if parsed.drivername == JOURNAL or parsed.get_backend_name() == SQLITE:
        there = file is not None and file.is_file()
        return there and (parsed.drivername == JOURNAL or _has_studies(parsed))
    return _has_studies(parsed)


def check_new_name(name: str, url: str | None = None) -> None:
    """Refuse a study name that is taken, before any long work; makes nothing.

    Raises
    ------
    StorageError : the name is taken, or the storage could not be written.
    """
    if check_place(url) and name in study_names(open_storage(url)):
        raise duplicate(name, shown(url))


def check_place(url: str | None = None) -> bool:
    """Refuse a storage that can neither be opened nor made, before any long work; whether there is one.

    Raises StorageError.
    """
    there = storage_exists(url)
    if not there:
        _check_writable(parse(url))
    return there


def duplicate(name: str, where: str = "") -> StorageError:
    todo = "choose another --name, or delete it first with: ssdtune study delete " + shlex.quote(name)
    return StorageError(f"study '{name}' exists already", where, todo)


def study_names(storage: BaseStorage) -> list[str]:
    """Names of all studies, in order of creation."""
    with storage_errors():
        return optuna.study.get_all_study_names(storage)


def load_study(name: str, storage: BaseStorage, url: str | None = None) -> optuna.Study:
    """One study by name; ``url`` is where the storage was opened.

    Raises
    ------
    StorageError : there is none; the nearest names are given.
    """
    names = study_names(storage)
    if name not in names:
        todo = "see what is there: ssdtune study list" if names else "make one: ssdtune study create STUDY.toml"
        raise StorageError(f"no study '{name}'", shown(url), nearest(name, names) or todo)
    with storage_errors(shown(url)):
        return optuna.load_study(study_name=name, storage=storage)


@contextmanager
def storage_errors(where: str = "") -> Iterator[None]:
    """Turn what a storage raises about itself, through Optuna or not, into a StorageError.

    ``where`` is the storage as it may be printed, if it is known here.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as reason:
        raise StorageError(f"storage failed ({why_of(reason)})", where, _todo(reason)) from reason
    except UnboundLocalError as reason:  # Optuna's, where it can neither end a trial nor read it
        if not isinstance(reason.__context__, optuna.exceptions.StorageInternalError):
            raise
        first = reason.__context__
        raise StorageError(f"storage failed ({why_of(first)})", where, _todo(first)) from first
    except (ConnectionError, TimeoutError) as reason:
        raise StorageError("no proxy answers", where, "start one, or give another --storage") from reason
    except socket.gaierror as reason:
        raise StorageError(f"no proxy answers ({reason.strerror})", where, "check the host's name") from reason
    except Exception as reason:  # gRPC's own, which is named only where it is in use
        grpc: Any = sys.modules.get("grpc")
        if grpc is None or not isinstance(reason, grpc.RpcError):
            raise
        why = " ".join(str(reason.details()).split())
        raise StorageError(f"the proxy failed ({why})", where, "see its own output") from reason


def why_of(reason: BaseException) -> str:
    """First line of the database's own words, or of the proxy's."""
    while isinstance(reason, optuna.exceptions.StorageInternalError | StorageError) and reason.__cause__ is not None:
        reason = reason.__cause__
    if isinstance(reason, DBAPIError) and reason.orig is not None:
        reason = reason.orig
    details = getattr(reason, "details", None)  # gRPC's own errors
    lines = str(details() if callable(details) else reason).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(reason).__name__


def _todo(reason: BaseException) -> str:
    if "not a database" in why_of(reason).lower():
        return "give the URL of an Optuna database"
    return "check the URL and its permissions"


def _of_another_version(reason: RuntimeError, where: str) -> StorageError:
    made = re.search(r"set up by optuna ([^)]+)", str(reason))
    what = f"made by Optuna {made[1] if made else 'of another version'}, this is Optuna {optuna.__version__}"
    older = "storage upgrade" in str(reason)
    todo = f"upgrade it (after a backup): optuna storage upgrade --storage {where}"
    return StorageError(what, where, todo if older else "install that Optuna: pip install -U optuna")


def _check_present(parsed: URL) -> None:
    text, file = shown_url(parsed), database_file(parsed)
    on_file = parsed.drivername == JOURNAL or parsed.get_backend_name() == SQLITE
    if on_file and (file is None or not file.is_file()):
        raise StorageError("no storage there", text, "create a study first, or give --storage")
    if parsed.drivername == JOURNAL:
        _check_journal(parsed)
    elif parsed.drivername != GRPC and not _has_studies(parsed):
        raise StorageError("no studies table in this database", text, "create a study first, or give --storage")


def _check_journal(parsed: URL) -> None:
    """Refuse a file that is none of Optuna's journals."""
    file = database_file(parsed)
    try:
        with open(str(file), "rb") as journal:
            first = journal.readline(2**16)
    except OSError as reason:
        raise StorageError(f"cannot read ({reason.strerror})", shown_url(parsed), "check its permissions") from reason
    if first and not first.startswith(b'{"op_code"'):
        raise StorageError("not an Optuna journal", shown_url(parsed), "give another --storage")


def _has_studies(parsed: URL) -> bool:
    """Whether the database has Optuna's tables; never makes any."""
    with storage_errors(shown_url(parsed)):
        engine = sqlalchemy.create_engine(parsed, **_engine_options(parsed))
        try:
            return sqlalchemy.inspect(engine).has_table("studies")
        except (TypeError, ValueError) as reason:  # the driver's own, of options that it does not know
            raise StorageError(f"cannot be opened ({reason})", shown_url(parsed), "check the URL") from reason
        finally:
            engine.dispose()


def _check_writable(parsed: URL) -> None:
    """Refuse a file that could not be made or would not be kept, without making it."""
    if parsed.drivername != JOURNAL and parsed.get_backend_name() != SQLITE:
        return
    file = database_file(parsed)
    if file is None:
        where = shown_url(parsed)
        raise StorageError("in memory, so that the study would be lost at once", where, "give another --storage")
    file = file.absolute()
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
