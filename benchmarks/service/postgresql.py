"""A PostgreSQL server of one's own, from Debian's programs, that can be restarted."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

OWNER = "postgres"  # a server refuses to be run by root


class Server:
    """``url`` of its database, with a password in it."""

    def __init__(self, programs: Path, folder: str, as_owner: list[str]) -> None:
        self.programs, self.folder, self.as_owner = programs, folder, as_owner
        self.url = f"postgresql+psycopg://lab:secret@/postgres?host={folder}"

    def call(self, program: str, *arguments: str) -> None:
        command = [*self.as_owner, str(self.programs / program), "-D", f"{self.folder}/data", *arguments]
        subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, check=True)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=100"
        self.call("pg_ctl", "-l", f"{self.folder}/log", "-o", options, "-w", "start")

    def stop(self) -> None:
        """At once: every connection is cut, as in a crash."""
        self.call("pg_ctl", "-m", "immediate", "-w", "stop")

    def restart(self) -> None:
        self.stop()
        self.start()


def missing() -> str | None:
    """Why there can be no server here."""
    if find_spec("psycopg") is None:
        return "no psycopg: install the extra postgresql"
    if not _programs():
        return "no PostgreSQL server in /usr/lib/postgresql"
    if os.geteuid() == 0 and OWNER not in [user.pw_name for user in pwd.getpwall()]:
        return f"no user {OWNER} to run a PostgreSQL server as"
    return None


@contextmanager
def running() -> Iterator[Server]:
    """A new server with an empty database, gone afterwards."""
    as_owner = ["runuser", "-u", OWNER, "--"] if os.geteuid() == 0 else []
    # a short path, for its socket, in a folder that its owner may enter
    with tempfile.TemporaryDirectory(prefix="ssdtune-") as folder:
        if as_owner:
            shutil.chown(folder, OWNER)
        server = Server(_programs()[-1], folder, as_owner)
        server.call("initdb", "--username=lab", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs() -> list[Path]:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return sorted(found, key=lambda path: float(path.parts[4]))
