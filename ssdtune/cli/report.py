"""``ssdtune report``: a study's report as one HTML page, and its note and figures in the dashboard."""

from __future__ import annotations

from pathlib import Path

import click

from ssdtune.cli.console import json_option, print_json
from ssdtune.cli.storage import device_option, next_line, open_study, storage_option
from ssdtune.errors import SsdtuneError


@click.command(short_help="Write a study's report as one HTML page.")
@click.argument("name")
@click.option(
    "--out",
    metavar="PAGE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page.  [default: NAME.html]",
)
@click.option(
    "--pictures/--no-pictures",
    default=True,
    show_default=True,
    help="Reconstruct slices before and after; needs the model and the data.",
)
@storage_option
@device_option
@json_option
def report(name: str, out: Path | None, pictures: bool, storage: str | None, device: str, as_json: bool) -> None:
    """Write what a study found, its figures, pictures and provenance, as one HTML page that loads nothing.

    The study's note and figures in the dashboard are brought up to date with it. Without the model or the data the
    page has no pictures and says why.
    """
    from ssdtune.report.dashboard import artifact_folder
    from ssdtune.report.summary import summary_of
    from ssdtune.report.view import read_view
    from ssdtune.report.write import write_report
    from ssdtune.search.storage import storage_url

    study = open_study(name, storage)
    view = read_view(study)
    missing: list[str] = []
    task = analysis = None
    if pictures:
        from ssdtune.cli.study_inputs import load_inputs

        try:
            task, analysis = load_inputs(name, view.facts, device)
        except SsdtuneError as reason:
            missing.append(f"No pictures: {reason}.")
            click.echo(missing[-1], err=True)
    page = write_report(
        study,
        out or Path(f"{name}.html"),
        task=task,
        analysis=analysis,
        artifacts=artifact_folder(storage_url(storage)),
        missing=missing,
    )
    if as_json:
        print_json(summary_of(view, {"report": page}))
        return
    click.echo(f"report: {page}")
    click.echo(f"the same in the dashboard: {next_line('dashboard', storage)}")
