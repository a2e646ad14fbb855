"""``ssdtune dashboard``: the real optuna-dashboard on the storage of the studies."""

from __future__ import annotations

import ipaddress
import signal
from pathlib import Path
from types import FrameType

import click

from ssdtune.cli.storage import storage_option
from ssdtune.errors import ConfigError


@click.command(epilog="Example: ssdtune dashboard --port 8080")
@storage_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--artifacts",
    metavar="PLACE",
    help="Folder or s3://BUCKET of the pictures.  [default: $SSDTUNE_ARTIFACTS, else beside an SQLite storage]",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Holds the token that every request must bring.  [default: $SSDTUNE_DASHBOARD_TOKEN, else none]",
)
@click.option("--read-only", is_flag=True, help="Refuse everything that would change or delete a study.")
def dashboard(
    storage: str | None, host: str, port: int, artifacts: str | None, token_file: Path | None, read_only: bool
) -> None:
    """Open the Optuna dashboard on the storage, until Ctrl-C or SIGTERM. A storage that is not there is not made.

    It can delete studies: on any address but this machine's own it wants a token, which a browser asks for as a
    password (of any user).
    """
    from ssdtune.cli.health import listen
    from ssdtune.report.dashboard_app import TOKEN, find_token, make_app
    from ssdtune.study.interrupts import Terminated, raise_terminated
    from ssdtune.study.storage import quiet_optuna, shown

    quiet_optuna()
    token = find_token(token_file)
    if token is None and not _is_this_machine(host):
        todo = f"give --token-file or {TOKEN}, or leave --host out"
        raise ConfigError("a dashboard that others can reach needs a token", f"--host {host}", todo)
    app = make_app(storage, artifacts, token=token, read_only=read_only)
    server = listen(app, host, port, threads=8)
    ways = [word for word, said in (("with a token", token), ("read-only", read_only)) if said]
    where = f"http://{host}:{server.effective_port}/"
    click.echo(", ".join([f"dashboard of {shown(storage)}: {where}  (Ctrl-C ends it)", *ways]))
    ended: type[KeyboardInterrupt] = KeyboardInterrupt

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = Terminated
        raise ended

    if signal.getsignal(signal.SIGTERM) is raise_terminated:
        signal.signal(signal.SIGTERM, terminate)
    server.run()
    raise ended  # waitress keeps it to itself


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
