"""Writing a study's whole report: pictures, the page, and what the dashboard shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import plotly.graph_objects as go

from ssdtune.report.dashboard import attach
from ssdtune.report.html import study_page
from ssdtune.report.page import write_page
from ssdtune.report.pictures import has_images, write_pictures
from ssdtune.report.view import read_view
from ssdtune.task import Task
from ssdtune.unlearning.method import Params


def write_report(
    study: optuna.Study,
    path: Path | str,
    *,
    task: Task | None = None,
    params: Params | None = None,
    figures: Mapping[str, go.Figure] | None = None,
    artifacts: Path | None = None,
    missing: Sequence[str] = (),
) -> Path:
    """Write the study's page to ``path`` and bring its note, figures and pictures in the storage up to date.

    task, params : what the study works on, and the parameters of its best trial; with both the page shows
    reconstructions before and after. figures : those of the Fisher information, by id. artifacts : the dashboard's
    folder of pictures, see ``ssdtune.report.dashboard.artifact_folder``. missing : why something could not be had.

    Raises
    ------
    StorageError : the study was not made by ssdtune, or the storage cannot be written (the page then is).
    DataError : ``path`` cannot be written.
    """
    view, pictures = read_view(study), {}
    with TemporaryDirectory() as scratch:
        if view.best is not None and task is not None and params is not None and has_images(task):
            title = f"{view.name}: {view.best.setting_in_words()} (trial {view.best.number})"
            pictures = write_pictures(task, params, scratch, title=title)
        written = write_page(study_page(view, spectrum=figures, pictures=pictures, missing=missing), path)
        attach(study, figures=figures, pictures=pictures, artifacts=artifacts)
    return written
