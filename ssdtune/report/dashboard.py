"""What a study shows in optuna-dashboard: a note with its facts, its figures, and its pictures as artifacts.

Everything has a fixed id, so attaching again updates in place. What a user writes below the note's last line is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna_dashboard import get_note, save_note, save_plotly_graph_object
from sqlalchemy.engine import make_url

from ssdtune.errors import StorageError
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
    artifacts: Path | None = None,
) -> None:
    """Write or update the study's note, figures and pictures in its storage.

    figures : further figures (the Fisher spectrum) by id, beside the history figures. pictures : PNG by set.
    artifacts : folder of the dashboard's artifact store; pictures are left out without one.

    Raises StorageError: the study was not made by ssdtune, or the storage or the artifact folder cannot be written.
    """
    view = read_view(study)
    with storage_errors():
        _name_objective(study)
        _save_note(study, note_text(view))
        for name, chart in {**history_figures(view), **(figures or {})}.items():
            save_plotly_graph_object(study, chart, graph_object_id=name)
    if artifacts is not None:
        for path in (pictures or {}).values():
            _save_picture(study, path, artifacts)


def note_text(view: StudyView) -> str:
    """The note, in Markdown."""
    commands = "\n".join(next_commands(view))
    return "\n\n".join(
        [
            f"## {view.name}",
            finding(view),
            f"```sh\n{commands}\n```",
            "### Before and after",
            _markdown_table(measures_table(view)),
            "### Facts",
            _markdown_table(Table(["", "value"], fact_rows(view))),
            LAST_LINE,
        ]
    )


def artifact_folder(url: str) -> Path | None:
    """Where the pictures of an SQLite storage's studies are kept: beside its file; None for other databases."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    path = Path(str(parsed.database))
    return path.with_name(f"{path.stem}_artifacts")


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


def _save_picture(study: optuna.Study, path: Path, folder: Path) -> None:
    """Upload a picture, or overwrite the artifact that has its name."""
    store = FileSystemArtifactStore(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with storage_errors():
            known = [meta.artifact_id for meta in get_all_artifact_meta(study) if meta.filename == path.name]
        if not known:
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
            return
        with path.open("rb") as content:
            store.write(known[0], content)
    except OSError as reason:
        what = f"cannot write an artifact ({reason.strerror or reason})"
        raise StorageError(what, folder, "choose a folder that can be written") from reason


def _markdown_table(table: Table) -> str:
    rule = ["---:" if place in table.right else "---" for place in range(len(table.columns))]
    lines = [table.columns, rule, *table.cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
