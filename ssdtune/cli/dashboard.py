"""``ssdtune dashboard``: the real optuna-dashboard on the storage of the studies."""

from __future__ import annotations

from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click

from ssdtune.cli.storage import storage_option
from ssdtune.errors import ConfigError


@click.command()
@storage_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--artifact-dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the pictures.  [default: beside an SQLite storage]",
)
def dashboard(storage: str | None, host: str, port: int, artifact_dir: Path | None) -> None:
    """Open the Optuna dashboard on the storage, until Ctrl-C. A storage that is not there is refused, not made."""
    from optuna.artifacts import FileSystemArtifactStore
    from optuna_dashboard import wsgi

    from ssdtune.report.dashboard import artifact_folder
    from ssdtune.report.dashboard_storage import DashboardStorage
    from ssdtune.study.storage import open_storage, quiet_optuna, shown, storage_url

    quiet_optuna()
    opened = open_storage(storage, kind=DashboardStorage)
    folder = artifact_dir or artifact_folder(storage_url(storage))
    store = FileSystemArtifactStore(folder) if folder is not None else None
    app = wsgi(opened, artifact_store=store)
    try:
        server = make_server(host, port, app, server_class=_ThreadedServer, handler_class=_QuietHandler)
    except OSError as reason:
        where = f"http://{host}:{port}/"
        raise ConfigError(f"cannot listen ({reason.strerror or reason})", where, "choose another --port") from reason
    with server:
        click.echo(f"dashboard of {shown(storage)}: http://{host}:{server.server_port}/  (Ctrl-C ends it)")
        server.serve_forever()


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """One line a request would bury the address."""
