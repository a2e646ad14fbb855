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
from ssdtune.report.view import StudyView, read_view
from ssdtune.samplers.space import Analysis
from ssdtune.task import Task


def write_report(
    study: optuna.Study,
    path: Path | str,
    *,
    task: Task | None = None,
    analysis: Analysis | None = None,
    figures: Mapping[str, go.Figure] | None = None,
    pictures: Path | None = None,
    artifacts: Path | None = None,
    missing: Sequence[str] = (),
) -> Path:
    """Write the study's page to ``path`` and bring its note, figures and pictures in the storage up to date.

    task, analysis : what the study works on; with both the page shows reconstructions of the best trial.
    figures : the figures of the Fisher information, by id. pictures : folder to keep the PNG files in.
    artifacts : the dashboard's folder of pictures, see ``ssdtune.report.dashboard.artifact_folder``.
    missing : why task or analysis could not be had.

    Raises
    ------
    StorageError : the study was not made by ssdtune, or the storage cannot be written (the page then is).
    DataError : ``path`` or ``pictures`` cannot be written.
    """
    view = read_view(study)
    with TemporaryDirectory() as scratch:
        drawn = draw_best(view, task, analysis, pictures or Path(scratch))
        written = write_page(study_page(view, spectrum=figures, pictures=drawn, missing=missing), path)
        attach(study, figures=figures, pictures=drawn, artifacts=artifacts)
    return written


def draw_best(view: StudyView, task: Task | None, analysis: Analysis | None, folder: Path) -> dict[str, Path]:
    """Before/after pictures of the best trial by set; none without a trial, or for a task that has no images."""
    if view.best is None or task is None or analysis is None or not has_images(task):
        return {}
    setting = view.best.setting
    title = f"{view.name}: alpha {setting.alpha:.4g}, lambda {setting.lam:.4g} (trial {view.best.number})"
    return write_pictures(task, analysis.dampen(*setting), folder, title=title)
