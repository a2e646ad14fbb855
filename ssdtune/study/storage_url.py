"""The URL of a storage: which kinds there are, their drivers, and how one may be shown without its password.

``sqlite:///file.db``, ``postgresql://…`` (``postgres://``), ``mysql://…`` and whatever else SQLAlchemy knows;
``journal:///file.log`` (Optuna's journal) and ``grpc://host:port`` (Optuna's proxy). A file's path is relative after
three slashes and absolute after four, as SQLAlchemy has it.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ssdtune.errors import StorageError

DEFAULT_URL = "sqlite:///ssdtune.db"
VARIABLE = "SSDTUNE_STORAGE"
PASSWORD_FILE = "SSDTUNE_STORAGE_PASSWORD_FILE"

JOURNAL, GRPC, SQLITE = "journal", "grpc", "sqlite"

_SECRET = re.compile(r"pass|pwd|secret|token|odbc_connect", re.IGNORECASE)  # names of what drivers take in a query

# the driver of each extra, where the URL names none
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}


def storage_url(url: str | None = None) -> str:
    """The given URL, else ``SSDTUNE_STORAGE``, else ``sqlite:///ssdtune.db`` in the working folder."""
    return url or os.environ.get(VARIABLE) or DEFAULT_URL


def shown(url: str | None = None) -> str:
    """The URL as it may be printed: without a password, whatever is wrong with it."""
    text = storage_url(url)
    try:
        parsed = make_url(text)
        if not _split_in_password(parsed):
            return shown_url(parsed)
    except (ArgumentError, ValueError):
        pass
    place, _, query = text.partition("?")
    scheme = place.partition("//")[0] + "//" if "//" in place else ""
    if "@" in query:  # of a password before the ? or of one behind it: where it ends is not known
        return f"{scheme}***"
    _, at, tail = place.rpartition("@")
    if at:
        return f"{scheme}***@{tail}"
    return re.sub(r"(//[^/:]*:)(?!\d+(?:/|$))[^/]*", r"\1***", place)  # perhaps name:password


def shown_url(parsed: URL) -> str:
    """A parsed URL as it may be printed."""
    hidden = {name: "hidden" for name in parsed.query if _SECRET.search(name)}
    words = parsed.update_query_dict(hidden).render_as_string(hide_password=True)
    if parsed.get_backend_name() in (SQLITE, JOURNAL):  # a path, such as file:studies.db, as a user would write it
        place, mark, query = words.partition("?")
        words = re.sub("(?:%[0-9A-F]{2})+", _readable, place) + mark + query
    return words


def _readable(escaped: re.Match[str]) -> str:
    """Escaped characters as they are, unless they would mean something in a URL or cannot be printed."""
    text = unquote(escaped[0])
    return text if text.isprintable() and not set(text) & set("?%#") else escaped[0]


def parse(url: str | None = None) -> URL:
    """The URL with its driver, and a missing password from the file that ``SSDTUNE_STORAGE_PASSWORD_FILE`` names.

    Raises
    ------
    StorageError : no storage URL, or its driver is not installed, or the password cannot be read.
    """
    try:
        parsed = make_url(storage_url(url))
        if parsed.drivername == "postgres":  # what clouds hand out; SQLAlchemy has forgotten it
            parsed = parsed.set(drivername="postgresql")
        driver = _DRIVERS.get(parsed.drivername)
        if driver is not None and (find_spec(driver) is not None or parsed.drivername != "postgresql"):
            parsed = parsed.set(drivername=f"{parsed.drivername}+{driver}")
        special = parsed.drivername in (JOURNAL, GRPC)
        dialect = None if special else parsed.get_dialect()
    except (SQLAlchemyError, ValueError) as reason:  # the second for a port that is no number
        todo = f"give an SQLAlchemy URL such as {DEFAULT_URL}"
        raise StorageError("not a storage URL", shown(url), todo) from reason
    if _split_in_password(parsed):
        raise StorageError("a password in it is not escaped", shown(url), "write @ as %40, / as %2F, : as %3A")
    if "?" in storage_url(url) and not parsed.query and parsed.get_backend_name() in (SQLITE, JOURNAL):
        # what follows would be dropped, and another file made
        raise StorageError("a ? in it begins options, and there are none", shown(url), "write ? in a path as %3F")
    if special:
        _check_special(parsed, url)
        return parsed
    try:
        if dialect is not None:
            dialect.import_dbapi()
    except ImportError as reason:
        what = f"the database's driver is missing ({reason})"
        raise StorageError(what, shown(url), _how_to_install(parsed)) from reason
    return _with_password(parsed)


def database_file(parsed: URL) -> Path | None:
    """The file of an SQLite database or a journal; None for servers, and for a database in memory."""
    if parsed.get_backend_name() not in (SQLITE, JOURNAL) or parsed.database in (None, "", ":memory:"):
        return None
    name = str(parsed.database)
    if str(parsed.query.get("uri")).lower() in ("true", "1", "yes", "on") and name.startswith("file:"):
        # SQLite's own URI, such as file:studies.db?mode=ro
        name = unquote(re.sub(r"^file:(?://(?:localhost)?(?=/))?", "", name))
        return None if name in ("", ":memory:") or parsed.query.get("mode") == "memory" else Path(name)
    return Path(name)


def _split_in_password(parsed: URL) -> bool:
    """Whether an unescaped @ or / of a password was taken for the end of it."""
    places = "" if parsed.get_backend_name() in (SQLITE, JOURNAL) else f"{parsed.host}{parsed.database}"
    return "@" in places


def _check_special(parsed: URL, url: str | None) -> None:
    if parsed.drivername == JOURNAL and (parsed.host or not parsed.database):
        raise StorageError(
            "a journal without a file", shown(url), "give journal:///file.log, or four slashes and /path"
        )
    if parsed.drivername == GRPC:
        if not parsed.host or not parsed.port:
            raise StorageError("a proxy without an address", shown(url), "give grpc://host:port")
        if find_spec("grpc") is None:
            raise StorageError("the package grpcio is missing", shown(url), "pip install 'ssdtune[grpc]'")


def _how_to_install(parsed: URL) -> str:
    extra = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}.get(parsed.get_backend_name())
    return f"pip install 'ssdtune[{extra}]'" if extra else "install it with pip"


def _with_password(parsed: URL) -> URL:
    file = os.environ.get(PASSWORD_FILE)
    if not file or parsed.password is not None or parsed.username is None:
        return parsed
    try:
        return parsed.set(password=Path(file).read_text().strip())
    except (OSError, UnicodeDecodeError) as reason:
        why = getattr(reason, "strerror", None) or "not text"
        raise StorageError(f"cannot read the password ({why})", file, f"mend {PASSWORD_FILE}") from reason
