"""``ssdtune report``: a study's report as one HTML page, and its note and figures in the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from ssdtune.cli.console import file_option, json_option, print_json, say
from ssdtune.cli.storage import default_file, device_option, next_line, open_study, storage_option
from ssdtune.errors import SsdtuneError, StorageError
from ssdtune.files import check_writable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@click.command(
    short_help="Write a study's report as one HTML page.", epilog="Example: ssdtune report mine --out mine.html"
)
@click.argument("name")
@file_option("--out", "PAGE.html", "The page.  [default: NAME.html]")
@click.option(
    "--inputs/--no-inputs",
    default=True,
    show_default=True,
    help="Load model and data, for pictures before and after and the Fisher figures.",
)
@storage_option
@device_option
@json_option
def report(name: str, out: Path | None, inputs: bool, storage: str | None, device: str, as_json: bool) -> None:
    """Write what a study found, its figures, pictures and provenance, as one HTML page that loads nothing.

    The study's note and figures in the dashboard are brought up to date with it. Without the model or the data the
    page has no pictures and no Fisher figures, and says why.
    """
    from ssdtune.report.artifacts import artifact_place, open_artifacts
    from ssdtune.report.dashboard import attach
    from ssdtune.report.html import study_page
    from ssdtune.report.page import write_page
    from ssdtune.report.pictures import has_images, write_pictures
    from ssdtune.report.summary import summary_of
    from ssdtune.report.view import read_view
    from ssdtune.report.volumes import notable_slices
    from ssdtune.study.storage import shown, storage_errors, storage_url

    study = open_study(name, storage)
    out = out or default_file(name, ".html")
    check_writable(out)
    place = artifact_place(storage=storage_url(storage))
    open_artifacts(place)  # a place that is none is found before the long work
    view = read_view(study)
    missing: list[str] = []
    doubts: Sequence[str] = ()
    task = params = None
    figures: dict[str, Figure] = {}
    if inputs:
        from ssdtune.cli.study_inputs import load_inputs
        from ssdtune.report.spectrum import spectrum_figures, view_spectrum
        from ssdtune.study.run import setting_seed
        from ssdtune.unlearning.method import run

        try:
            task, unlearner = load_inputs(name, view.record, device)
            if unlearner.analysis is not None:
                doubts = unlearner.analysis.warnings
                figures = spectrum_figures(view_spectrum(unlearner.analysis))
            if view.best is not None:
                params = run(unlearner, view.best.setting, setting_seed(view.record, view.best.setting)).params
        except SsdtuneError as reason:
            missing.append(f"No pictures and no Fisher figures: {reason}.")
            click.echo(missing[-1], err=True)
    pictures = {}
    with TemporaryDirectory() as scratch:
        if view.best is not None and task is not None and params is not None and has_images(task):
            title = f"{name}: {view.best.setting_in_words()} (trial {view.best.number})"
            pictures = write_pictures(task, params, scratch, title=title, notable=notable_slices(view), narrow=True)
        page = write_page(study_page(view, spectrum=figures, doubts=doubts, pictures=pictures, missing=missing), out)
        try:
            with storage_errors(shown(storage)):
                store = open_artifacts(place, create=True)
                attach(study, figures=figures, pictures=pictures, artifacts=store)
        except StorageError as reason:  # the page is there, which is what was asked for
            say(f"the dashboard's note and figures stay as they were: {reason}")
    if as_json:
        print_json(summary_of(view, {"report": page}))
        return
    click.echo(f"report: {page}")
    click.echo(f"the same in the dashboard: {next_line(storage, 'dashboard')}")
