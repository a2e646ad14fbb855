"""What commands on studies share: the storage option, opening a study, and the line to type next."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ssdtune.errors import ConfigError, SsdtuneError, StorageError
from ssdtune.places import DATA
from ssdtune.studyfile import check_name

if TYPE_CHECKING:
    import optuna


DASHBOARD = "http://127.0.0.1:8080/dashboard/compare-studies"
_META = "ssdtune."
THREADS = f"{_META}threads"
"""Where a command's context keeps ``--threads``."""


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--device``, ``--threads`` and ``--data-root`` of a command that computes."""
    for option in (
        click.option(
            "--data-root",
            metavar="DIR",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            envvar=DATA,
            show_envvar=True,
            expose_value=False,
            callback=_set_data_root,
            help="Relative paths of study files are taken from here.  [default: the file's folder]",
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            expose_value=False,
            callback=_remember,
            help="CPU threads.  [default: OMP_NUM_THREADS, else what a short measurement finds best]",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="cpu, cuda, cuda:N, mps, or auto: a GPU if there is one.",
        ),
    ):
        command = option(command)
    return command


def _set_data_root(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """For this process and those it starts, by the variable that means the same."""
    _remember(context, parameter, value)
    if value is not None:
        os.environ[DATA] = str(value.absolute())


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[f"{_META}{parameter.name}"] = value


def storage_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--storage`` for a command; wherever the database fails in it, that is one line which names the storage."""

    @wraps(command)
    def on_storage(*arguments: Any, storage: str | None, **options: Any) -> Any:
        if storage and _has_password(storage):
            words = "the password in --storage shows in the list of processes; use SSDTUNE_STORAGE_PASSWORD_FILE"
            click.echo(f"warning: {words}, or SSDTUNE_STORAGE", err=True)
        try:
            return command(*arguments, storage=storage, **options)
        except Exception as reason:  # sorted below, without importing SQLAlchemy to name its errors
            if "sqlalchemy" not in sys.modules:  # then it is no failure of a database, and the import would be slow
                raise
            from ssdtune.study.storage import shown, storage_errors

            if isinstance(reason, SsdtuneError):
                where = reason.where or (shown(storage) if isinstance(reason, StorageError) else "")
                raise type(reason)(reason.what, where, _on(storage, reason.todo)) from reason
            with storage_errors(shown(storage)):
                raise

    return click.option(
        "--storage",
        metavar="URL",
        help="SQLAlchemy URL of the studies.  [default: $SSDTUNE_STORAGE, else sqlite:///ssdtune.db]",
    )(on_storage)


def _on(storage: str | None, todo: str) -> str:
    """What to do, its command on studies on the same storage."""
    from ssdtune.study.storage import shown

    suggested = storage and re.search(r": ssdtune study [^:]*$", todo) and "--storage" not in todo
    return f"{todo} --storage {shlex.quote(shown(storage))}" if suggested else todo


def _has_password(url: str) -> bool:
    """Whether a URL names a password, as far as can be told without SQLAlchemy."""
    user, at, _ = url.partition("//")[2].rpartition("@")
    return (bool(at) and ":" in user) or re.search(r"[?&][^=&]*(pass|pwd|secret|token)[^=&]*=", url, re.I) is not None


def open_study(name: str, storage: str | None) -> optuna.Study:
    """A study that is there; raises StorageError."""
    from ssdtune.study.storage import load_study, open_storage, quiet_optuna

    quiet_optuna()
    return load_study(name, open_storage(storage), storage)


def default_file(name: str, suffix: str) -> Path:
    """``NAME.suffix`` in the working folder; raises ConfigError for a name that would lead elsewhere.

    ssdtune makes no such study, but others that write to the storage may, and the dashboard renames.
    """
    try:
        return Path(check_name(name) + suffix)
    except ValueError as reason:
        raise ConfigError("the study's name cannot be a file's", f"study {name!r}", "give --out") from reason


def side_by_side(names: Sequence[str], opened: optuna.storages.BaseStorage) -> str:
    """Where the dashboard, once it runs, compares these studies."""
    return f"{DASHBOARD}?ids={','.join(str(opened.get_study_id_from_name(name)) for name in names)}"


def next_line(storage: str | None, *words: str) -> str:
    """A command to type next, quoted for a shell, on the same storage; a password in its URL is not repeated."""
    if storage:
        from ssdtune.study.storage import shown

        words = (*words, "--storage", shown(storage))
    return shlex.join(["ssdtune", *words])


def typed_options(*but: str) -> list[str]:
    """The options that the command under way was given as it was typed, for the line that goes on with it.

    but : names of parameters left out, as are the storage, which ``next_line`` adds, and the form of the output.
    """
    context = click.get_current_context()
    words: list[str] = []
    for option in context.command.params:
        name = str(option.name)
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and isinstance(option, click.Option) and name not in ("storage", "as_json", *but):
            value = context.params.get(name, context.meta.get(f"{_META}{name}"))
            words += option.opts[-1:] if value is True or value == option.flag_value else [option.opts[-1], str(value)]
    return words


@click.group(short_help="Make a storage, or serve one.", epilog="Example: ssdtune storage create")
def storage() -> None:
    """Make a storage, or serve one to other machines. Commands on studies open one that is there."""


@storage.command(
    short_help="Make an empty storage, unless it is there.",
    epilog="Example: ssdtune storage create --storage sqlite:///studies.db",
)
@storage_option
def create(storage: str | None) -> None:
    """Make the database's tables, or the file, that workers and dashboards then find; one that is there is left."""
    from ssdtune.study.patience import Patience, patiently
    from ssdtune.study.storage import open_storage, quiet_optuna, shown

    quiet_optuna()
    patiently(lambda: open_storage(storage, create=True), Patience(60))
    click.echo(f"storage {shown(storage)}")


@storage.command(
    short_help="Serve a storage to workers as grpc://HOST:PORT.", epilog="Example: ssdtune storage serve --port 13000"
)
@storage_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; it asks for no password.")
@click.option("--port", type=click.IntRange(1, 65535), default=13000, show_default=True)
def serve(storage: str | None, host: str, port: int) -> None:
    """Serve the storage through Optuna's gRPC proxy, until Ctrl-C.

    Whoever reaches the address can do anything to the storage: neither encrypted nor behind a password.
    """
    import warnings

    import optuna

    from ssdtune.study.storage import open_storage, quiet_optuna, shown

    quiet_optuna()
    opened = open_storage(storage, pre_ping=True)
    click.echo(f"proxy of {shown(storage)}: grpc://{host}:{port}  (Ctrl-C ends it)")
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.storages.run_grpc_proxy_server(opened, host=host, port=port)
