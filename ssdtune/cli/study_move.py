"""``ssdtune study move``: point a study at its files again after their folder moved."""

from __future__ import annotations

from pathlib import Path

import click

from ssdtune.cli.console import json_option, print_json, say, study_file_argument, track
from ssdtune.cli.storage import open_study, storage_option
from ssdtune.errors import ConfigError


@click.command(
    short_help="Point a study at its files in another place.", epilog="Example: ssdtune study move mine there/mine.toml"
)
@click.argument("name")
@study_file_argument
@storage_option
@json_option
def move(name: str, study_file: Path, storage: str | None, as_json: bool) -> None:
    """Take the places of model and data from STUDY.toml, everything else stays as the study has it.

    Nothing is changed unless checkpoint, oracle and every slice are those that the study was made with.
    """
    from ssdtune.study.record import read_record
    from ssdtune.studyfile import StudyFile, load_study_file

    study = open_study(name, storage)
    record = read_record(study)
    if record.study_file is None:
        raise ConfigError("made from Python, without a study file", f"study '{name}'", "it names no files")
    found = load_study_file(study_file)
    places = {"model": found.model, "data": found.data}
    moved = StudyFile.from_json(record.study_file).model_copy(update=places)
    moved._folder = found._folder
    # imported once the study is known to be there: these take seconds
    from ssdtune.mri.task import load_task
    from ssdtune.study.run import check_inputs

    check_inputs(record, load_task(moved, track=track, say=say))
    study.set_user_attr("study_file", moved.to_json())
    if as_json:
        print_json({"study": name, "model": str(moved.model.checkpoint), "retain": str(moved.data.retain)})
    else:
        click.echo(f"study {name} works on {moved.model.checkpoint} and {moved.data.retain} now")
