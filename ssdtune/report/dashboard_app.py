"""The dashboard as a WSGI application: a token for it, and a mode in which nothing can be changed.

``gunicorn 'ssdtune.report.dashboard_app:from_environment()'`` serves it elsewhere than ``ssdtune dashboard`` does.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from optuna_dashboard import wsgi

from ssdtune.errors import ConfigError
from ssdtune.report.artifacts import artifact_place, open_artifacts
from ssdtune.report.dashboard_storage import DashboardStorage
from ssdtune.study.storage import open_storage
from ssdtune.study.storage_url import storage_url

TOKEN, TOKEN_FILE, READ_ONLY = "SSDTUNE_DASHBOARD_TOKEN", "SSDTUNE_DASHBOARD_TOKEN_FILE", "SSDTUNE_DASHBOARD_READ_ONLY"

Application = Callable[..., Iterable[bytes]]

_READING = ("GET", "HEAD", "OPTIONS")
_HERE = ("localhost", "127.0.0.1", "[::1]")


def make_app(
    storage: str | None = None, artifacts: str | None = None, *, token: str | None = None, read_only: bool = False
) -> Application:
    """The dashboard of a storage.

    token : what a request must bring, as ``Authorization: Bearer TOKEN`` or as the password of any user; None: requests
    must be addressed to this machine. read_only : refuse every request that could change something.

    Raises StorageError: the storage cannot be opened. ConfigError : the place of artifacts cannot be used.
    """
    store = open_artifacts(artifact_place(artifacts, storage_url(storage)))
    app: Application = wsgi(open_storage(storage, kind=DashboardStorage, pre_ping=True), artifact_store=store)
    return Guard(app, token, read_only)


def from_environment() -> Application:
    """The application as the environment describes it: ``SSDTUNE_STORAGE``, ``SSDTUNE_ARTIFACTS``,
    ``SSDTUNE_DASHBOARD_TOKEN`` or ``SSDTUNE_DASHBOARD_TOKEN_FILE``, ``SSDTUNE_DASHBOARD_READ_ONLY=1``.

    Raises ConfigError: there is no token; who serves it decides on which address.
    """
    token = find_token()
    if token is None:
        raise ConfigError("a dashboard without a token", TOKEN, f"set it, or {TOKEN_FILE}")
    return make_app(token=token, read_only=os.environ.get(READ_ONLY, "") not in ("", "0"))


def find_token(file: Path | None = None) -> str | None:
    """The token in a file, else in ``SSDTUNE_DASHBOARD_TOKEN_FILE``, else ``SSDTUNE_DASHBOARD_TOKEN``.

    Raises ConfigError: the file cannot be read, or the token is shorter than 16 characters.
    """
    named = file or os.environ.get(TOKEN_FILE)
    try:
        token = Path(named).read_text().strip() if named else os.environ.get(TOKEN, "").strip()
    except (OSError, UnicodeDecodeError) as reason:
        why = getattr(reason, "strerror", None) or "not text"
        raise ConfigError(f"cannot read the token ({why})", named, "check the path") from reason
    if not token and not named:
        return None
    if len(token) < 16:
        raise ConfigError("a token shorter than 16 characters", named or TOKEN, "make one with: openssl rand -hex 24")
    return token


class Guard:
    """Middleware that lets through who has the token, and, in a read-only dashboard, what only reads."""

    def __init__(self, app: Application, token: str | None, read_only: bool) -> None:
        self.app, self.token, self.read_only = app, token, read_only

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == "/healthz":
            return _answer(start_response, "200 OK", "ok")
        if not self._is_let_in(environ):
            asked = [("WWW-Authenticate", 'Basic realm="ssdtune dashboard"')] if self.token is not None else []
            words = "the token is missing or wrong" if self.token is not None else "not addressed to this machine"
            return _answer(start_response, "401 Unauthorized" if asked else "403 Forbidden", words, asked)
        if self.read_only and environ.get("REQUEST_METHOD") not in _READING:
            return _answer(start_response, "403 Forbidden", "this dashboard is read-only")
        return self.app(environ, start_response)

    def _is_let_in(self, environ: dict[str, Any]) -> bool:
        if self.token is None:  # a page elsewhere may have a name of its own that leads here
            host = str(environ.get("HTTP_HOST", ""))
            return (host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host) in _HERE
        kind, _, given = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(given.encode(), self.token.encode())


def _answer(
    start_response: Callable[..., Any], status: str, words: str, headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [words.encode() + b"\n"]
