"""``ssdtune worker``: what is left of all studies of a storage."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.console import FiniteRange, json_option, print_json, print_table
from ssdtune.cli.events import LOG_JSON, Events
from ssdtune.cli.storage import THREADS, device_option, next_line, storage_option, typed_options
from ssdtune.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from ssdtune.cli.work import Work


def _logged(command: Callable[..., None]) -> Callable[..., None]:
    """``--log-json``: what the command says goes through ``events``, and all else that is printed becomes one."""

    @wraps(command)
    def logged(*arguments: Any, log_json: bool, **options: Any) -> None:
        events = Events(log_json)
        with events.alone():
            command(*arguments, events=events, **options)

    return click.option(
        LOG_JSON, is_flag=True, help="One JSON line an event on standard error, without names of files."
    )(logged)


@click.command(
    short_help="Run what is left of all studies of a storage.",
    epilog="Example: ssdtune worker --watch 10 --device cuda",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--watch",
    type=FiniteRange(min=0, min_open=True),
    is_flag=False,
    flag_value=10.0,
    metavar="[SECONDS]",
    help="Look for new studies so often (10), until Ctrl-C or SIGTERM.  [default: stop when nothing is left]",
)
@click.option("--patience", type=click.FloatRange(min=0), default=300, show_default=True, metavar="SECONDS",
              help="How long a database that does not answer is waited for.")  # fmt: skip
@click.option("--failures", type=click.IntRange(min=1), default=3, show_default=True,
              help="Failures in a row after which a study is set aside for an hour.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of --port.")
@click.option("--port", type=click.IntRange(0, 65535), help="Serve /healthz and /metrics here; 0 takes a free one.")
@_logged
@storage_option
@device_option
@json_option
def worker(
    names: tuple[str, ...],
    watch: float | None,
    patience: float,
    failures: int,
    events: Events,
    host: str,
    port: int | None,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Run every study of the storage, or those named, until its trials are used up, the oldest first.

    Several workers may share a storage. A study whose trial fails is tried again, at growing intervals, and in the end
    set aside with a line that says why; so is one whose inputs are missing or changed. The exit code is that of the
    first. Ctrl-C and SIGTERM keep every finished trial and give back the one under way. --device cuda:0,cuda:1 runs a
    worker on each.
    """
    from ssdtune.cli.work import Work
    from ssdtune.device import find_device
    from ssdtune.report.artifacts import artifact_place, open_artifacts
    from ssdtune.study import interrupts
    from ssdtune.study.record import read_record
    from ssdtune.study.storage import load_study, open_storage, quiet_optuna, shown

    quiet_optuna()
    devices = [word for word in device.split(",") if word]
    for each in devices:
        find_device(each)
    if len(devices) > 1:
        _run_each(devices, storage, as_json)
    with interrupts.taken(), interrupts.welcome():  # a signal may not be lost in what the database's driver does
        open_artifacts(artifact_place(), create=True)  # a place that is none is refused before the long work
        work = Work(
            lambda: open_storage(storage),
            names,
            device,
            events,
            patience=patience,
            failures=failures,
            watched=watch is not None,
        )
        for name in names:
            read_record(load_study(name, work.view(), storage))
    if port is not None:
        from ssdtune.cli.health import serve

        found = serve(work.health.app, host, port)
        work.events("listening", f"http://{host}:{found}/healthz and /metrics", port=found)
    stopped: KeyboardInterrupt | None = None
    rows = []
    try:
        _go_on(work, watch)
    except KeyboardInterrupt as reason:
        stopped, work.patience.seconds = reason, 0.0  # from now on nothing is waited for
    try:
        rows = work.rows()
    except StorageError:
        if stopped is None:
            raise
    if as_json:
        print_json({"storage": shown(storage), "studies": rows, "skipped": work.skipped})
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    elif stopped is None and not work.skipped:
        click.echo(f"nothing left to run in {shown(storage)}")
    if stopped is not None:
        again = next_line(storage, "worker", *names, *typed_options())
        work.events("stopped", f"stopped: all finished trials are kept; go on with: {again}")
        sys.exit(interrupts.exit_code(stopped))
    if work.skipped:
        sys.exit(work.skipped[0]["exit_code"])


def _go_on(work: Work, watch: float | None) -> None:
    """Rounds until nothing is left, or until a signal if new studies are watched for."""
    while True:
        again = work.run_round()
        if watch is None and again is None:
            return
        time.sleep(min(again if again is not None else watch or 0, watch or 600))


def _run_each(devices: list[str], storage: str | None, as_json: bool) -> None:
    """The same command once a device; the URL, which may have a password, goes by the environment."""
    from ssdtune.cli.worker_processes import run_processes
    from ssdtune.study.storage_url import VARIABLE, storage_url

    if as_json:
        raise ConfigError("one document cannot hold what several workers print", "--json", "give one --device")
    context = click.get_current_context()
    options: dict[str, Any] = {
        name: value for name, value in context.params.items() if name not in ("device", "storage")
    }
    names = options.pop("names")
    commands = []
    for place, device in enumerate(devices):
        words = ["worker", *names, "--device", device]
        if context.meta.get(THREADS) is not None:
            words += ["--threads", str(context.meta[THREADS])]
        for name, value in options.items():
            option = "--" + {"as_json": "json"}.get(name, name).replace("_", "-")
            if value is True:
                words.append(option)
            elif value is not None and value is not False:
                words += [option, str(value + place if name == "port" and value else value)]
        commands.append(words)
    sys.exit(run_processes(commands, {VARIABLE: storage_url(storage)}))
