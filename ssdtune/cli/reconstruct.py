"""``ssdtune reconstruct``: images of the untouched and the unlearned model in fastMRI's submission layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdtune.cli.computing import open_task
from ssdtune.cli.console import json_option, print_json, print_table, track
from ssdtune.cli.storage import device_option, open_study, storage_option
from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    from ssdtune.task import Task
    from ssdtune.unlearning.method import Params


@click.command(
    short_help="Reconstruct with the untouched and the unlearned model, in fastMRI's layout.",
    epilog="Example: ssdtune reconstruct mine --out images",
)
@click.argument("name", metavar="NAME|CHECKPOINT")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder to make."
)
@click.option(
    "--trial", "number", type=click.IntRange(min=0), help="A finished trial of a study.  [default: the best feasible]"
)
@click.option(
    "--data",
    "study_file",
    metavar="STUDY.toml",
    type=click.Path(dir_okay=False, path_type=Path),
    help="For a checkpoint: the study file that names its data and mask.",
)
@storage_option
@device_option
@json_option
def reconstruct(
    name: str,
    out: Path,
    number: int | None,
    study_file: Path | None,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Write DIR/MODEL/SET/VOLUME.h5 with a dataset `reconstruction`, as fastMRI's submissions have it.

    MODEL is `untouched` and `unlearned` of a study; of a checkpoint on the data that --data names, its name.
    """
    from ssdtune.mri.reconstruct import check_free_folder
    from ssdtune.mri.reconstruct import reconstruct as write

    check_free_folder(out)
    task, models = (
        _of_checkpoint(Path(name), study_file, device) if study_file else of_study(name, number, storage, device)
    )
    rows: list[list[object]] = []
    for model, params in models.items():
        for which in task.scored_sets:
            files = write(task, params, which, out / model / which, track)
            rows.append([model, which, len(files), str(out / model / which)])
    columns = ("model", "set", "volumes", "folder")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


def of_study(name: str, number: int | None, storage: str | None, device: str) -> tuple[Task, dict[str, Params | None]]:
    """A study's task, with the parameters of its models: None is untouched; ConfigError for a name that is a file."""
    from ssdtune.cli.study_apply import check_finite, check_notes, check_slices, choose
    from ssdtune.cli.study_inputs import check_stored, load_inputs
    from ssdtune.study.record import read_record

    if Path(name).is_file():
        raise ConfigError("a checkpoint does not say what data it is of", name, "add --data STUDY.toml")
    study = open_study(name, storage)
    record = read_record(study)
    check_stored(record)
    from ssdtune.study.run import setting_seed
    from ssdtune.unlearning.method import run

    chosen = choose(study, number)
    check_finite(chosen, name)
    task, unlearner = load_inputs(name, record, device)
    check_notes(chosen, unlearner.notes(chosen.setting), name)
    params = run(unlearner, chosen.setting, setting_seed(record, chosen.setting)).params
    check_slices(chosen, task, params, name)
    return task, {"untouched": None, "unlearned": params}


def _of_checkpoint(path: Path, study_file: Path, device: str) -> tuple[Task, dict[str, Params | None]]:
    from ssdtune.studyfile import load_study_file

    study = load_study_file(study_file)
    model = study.model.model_copy(update={"checkpoint": path.absolute(), "oracle": None})
    return open_task(study.model_copy(update={"model": model}), device), {path.stem: None}
