"""A PostgreSQL server of one's own, from Debian's programs, that can be restarted."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

OWNER = "postgres"  # a server refuses to be run by root


class Server:
    """``url`` of its database, with a password in it. It ends with the thread that started it, however that ends."""

    def __init__(self, programs: Path, folder: str, owner: str | None) -> None:
        self.programs, self.folder = programs, folder
        as_owner = [f"--reuid={owner}", f"--regid={owner}", "--clear-groups"] if owner else []
        self.prefix = ["setpriv", *as_owner, "--pdeathsig=QUIT"]
        self.url = f"postgresql+psycopg://lab:secret@/postgres?host={folder}"

    def call(self, program: str, *arguments: str) -> None:
        command = [*self.prefix, str(self.programs / program), *arguments]
        subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, check=True)

    def start(self) -> None:
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=100"]
        command = [*self.prefix, str(self.programs / "postgres"), "-D", f"{self.folder}/data", "-k", self.folder]
        with open(f"{self.folder}/log", "a") as log:
            self.process = subprocess.Popen([*command, *options], cwd=self.folder, stdout=log, stderr=log)
        ready = [str(self.programs / "pg_isready"), "-q", "-h", self.folder, "-d", "postgres"]
        while subprocess.run(ready, check=False).returncode:
            if self.process.poll() is not None:
                raise RuntimeError(Path(self.folder, "log").read_text())
            time.sleep(0.1)

    def stop(self) -> None:
        """At once: every connection is cut, as in a crash."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Within it nothing is answered, and every connection stays open."""
        with hung(self.process.pid):
            yield


@contextmanager
def hung(pid: int) -> Iterator[None]:
    """Suspend a process and those that it has started."""
    first = psutil.Process(pid)
    suspended = [first, *first.children(recursive=True)]
    for process in suspended:
        with suppress(psutil.NoSuchProcess):  # one of a connection that was just closed
            process.suspend()
    try:
        yield
    finally:
        for process in suspended:
            with suppress(psutil.NoSuchProcess):
                process.resume()


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
    owner = OWNER if os.geteuid() == 0 else None
    # a short path, for its socket, in a folder that its owner may enter
    with tempfile.TemporaryDirectory(prefix="ssdtune-") as folder:
        if owner:
            shutil.chown(folder, owner)
        server = Server(_programs()[-1], folder, owner)
        server.call(
            "initdb",
            "-D",
            f"{folder}/data",
            "--username=lab",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs() -> list[Path]:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return sorted(found, key=lambda path: float(path.parts[4]))
