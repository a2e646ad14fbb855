"""What a study shows in optuna-dashboard: a note with its facts, its figures, and its pictures as artifacts.

Everything has a fixed id, so attaching again updates in place. What a user writes below the note's last line is kept.
"""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna.artifacts import get_all_artifact_meta, upload_artifact
from optuna_dashboard import get_note, save_note, save_plotly_graph_object

from ssdtune.report.artifacts import ArtifactStore, artifact_errors
from ssdtune.report.history import history_figures
from ssdtune.report.html import measures_table
from ssdtune.report.page import Table
from ssdtune.report.statement import fact_rows, finding, next_commands
from ssdtune.report.view import StudyView, read_view
from ssdtune.study.storage import storage_errors

METRIC = "score s"
LAST_LINE = "*Written by ssdtune at every report; what stands below this line is kept.*"


def attach(
    study: optuna.Study,
    *,
    figures: Mapping[str, go.Figure] | None = None,
    pictures: Mapping[str, Path] | None = None,
    artifacts: ArtifactStore | None = None,
) -> None:
    """Write or update the study's note, figures and pictures in its storage.

    figures : further figures (the Fisher spectrum) by id, beside the history figures. pictures : PNG by set.
    artifacts : where the dashboard's pictures are kept; they are left out without one.

    Raises StorageError: the study was not made by ssdtune, or the storage or the artifacts cannot be written.
    """
    view = read_view(study)
    with storage_errors():
        _name_objective(study)
        _save_note(study, note_text(view))
    attach_figures(study, {**history_figures(view), **(figures or {})})
    if artifacts is not None:
        for path in (pictures or {}).values():
            _save_picture(study, path, artifacts)


def attach_figures(study: optuna.Study, figures: Mapping[str, go.Figure]) -> None:
    """Write or replace figures by id; raises StorageError."""
    with storage_errors():
        for name, chart in figures.items():
            save_plotly_graph_object(study, chart, graph_object_id=name)


def note_text(view: StudyView) -> str:
    """The note, in Markdown."""
    commands = "\n".join(next_commands(view)).replace("```", "")
    return "\n\n".join(
        [
            f"## {escape(view.name)}",
            finding(view),
            f"```sh\n{commands}\n```",
            "### Before and after",
            _markdown_table(measures_table(view)),
            "### Facts",
            _markdown_table(Table(["", "value"], fact_rows(view))),
            LAST_LINE,
        ]
    )


def _save_note(study: optuna.Study, body: str) -> None:
    present = get_note(study)
    _, marked, below = present.partition(LAST_LINE)
    kept = below if marked else f"\n\n{present}" if present.strip() else ""
    if body + kept != present:
        save_note(study, body + kept)


def _name_objective(study: optuna.Study) -> None:
    if study.metric_names == [METRIC]:
        return
    with warnings.catch_warnings():
        # marked experimental in Optuna; it only names the axis
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([METRIC])


def _save_picture(study: optuna.Study, path: Path, store: ArtifactStore) -> None:
    """Upload a picture, or overwrite the artifact that has its name."""
    with artifact_errors():
        with storage_errors():
            known = [meta.artifact_id for meta in get_all_artifact_meta(study) if meta.filename == path.name]
        if not known:
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
            return
        with path.open("rb") as content:
            store.write(known[0], content)


def _markdown_table(table: Table) -> str:
    rule = ["---:" if place in table.right else "---" for place in range(len(table.columns))]
    lines = [[escape(cell) for cell in table.columns], rule, *([escape(cell) for cell in line] for line in table.cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape(text: str) -> str:
    """Text that stays text in Markdown: names of files, of patients or of measures may hold anything.

    The dashboard renders HTML in notes too, and may fetch what an image names.
    """
    flat = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|!~#]|:(?=//)|(?<=www)\.)", r"\\\1", flat)
