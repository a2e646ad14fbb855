"""``ssdtune worker``: what is left of all studies of a storage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.console import json_option, print_json, print_table
from ssdtune.cli.storage import device_option, next_line, storage_option
from ssdtune.cli.study_read import list_row
from ssdtune.cli.study_run import Report, carry_out
from ssdtune.errors import SsdtuneError, StorageError

if TYPE_CHECKING:
    import optuna


@click.command(short_help="Run what is left of all studies of a storage.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--watch",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Look for new studies so often, until Ctrl-C.  [default: stop when nothing is left]",
)
@storage_option
@device_option
@json_option
def worker(names: tuple[str, ...], watch: float | None, storage: str | None, device: str, as_json: bool) -> None:
    """Run every study of the storage, or those named, until its trials are used up, the oldest first.

    Several workers may share a storage. A study that fails, or whose inputs are missing or changed, is skipped with a
    line that says why and not tried again; the exit code is that of the first. Ctrl-C keeps every finished trial.
    """
    from ssdtune.device import find_device
    from ssdtune.study.record import read_record
    from ssdtune.study.storage import load_study, open_storage, quiet_optuna, shown

    quiet_optuna()
    opened = open_storage(storage)
    for name in names:
        read_record(load_study(name, opened, storage))
    find_device(device)
    work = Work(opened, names, device)
    stopped = False
    try:
        while work.run_round() or watch is not None:
            time.sleep(watch or 0)
    except KeyboardInterrupt:
        stopped = True
    rows = work.rows()
    if as_json:
        print_json({"storage": shown(storage), "studies": rows, "skipped": work.skipped})
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    elif not stopped and not work.skipped:
        click.echo(f"nothing left to run in {shown(storage)}")
    if stopped:
        again = next_line(" ".join(["worker", *names]), storage)
        click.echo(f"stopped: all finished trials are kept; go on with: {again}", err=True)
        sys.exit(130)
    if work.skipped:
        sys.exit(work.skipped[0]["exit_code"])


class Work:
    """What a worker has to do and has done: ``reports`` of what it ran, by study, and the studies ``skipped``."""

    def __init__(self, storage: optuna.storages.RDBStorage, names: tuple[str, ...], device: str) -> None:
        self.storage, self.names, self.device = storage, names, device
        self.reports: dict[str, list[Report]] = {}
        self.skipped: list[dict[str, Any]] = []

    def run_round(self) -> bool:
        """Run all studies that have trials left, one after the other; whether there was one."""
        found = False
        for study in self._waiting():
            if study.study_name not in [each["study"] for each in self.skipped]:
                found = True
                self._run(study)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """A row for each study that trials were run of here, and is still there."""
        from ssdtune.study.storage import load_study, study_names

        ran = {name: sum(report.ran for report in reports) for name, reports in self.reports.items()}
        here = [name for name in study_names(self.storage) if ran.get(name)]
        return [{**list_row(load_study(name, self.storage)), "ran": ran[name]} for name in here]

    def _waiting(self) -> Iterator[optuna.Study]:
        """Studies to run; a Ctrl-C is heard when one is found, as within SQLAlchemy Python may lose it."""
        from ssdtune.study.interrupts import Interrupts
        from ssdtune.study.worker import waiting_studies

        studies, interrupts = waiting_studies(self.storage, self.names), Interrupts()
        while True:
            with interrupts.taken():
                study = next(studies, None)
            interrupts.check()
            if study is None:
                return
            yield study

    def _run(self, study: optuna.Study) -> None:
        from ssdtune.study.record import read_record

        name, record = study.study_name, read_record(study)
        report = Report(record, record.search.trials)
        self.reports.setdefault(name, []).append(report)
        click.echo(f"study {name}", err=True)
        try:
            carry_out(study, self.storage, report, self.device)
        except StorageError:
            raise
        except SsdtuneError as reason:
            why = " ".join(str(reason).split())
            self.skipped.append({"study": name, "error": why, "exit_code": reason.exit_code})
            click.echo(f"skipped study {name}: {why}", err=True)
