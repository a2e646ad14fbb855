"""``ssdtune study apply``: the unlearned checkpoint of a study's best trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.console import file_option, json_option, print_json
from ssdtune.cli.storage import device_option, next_line, open_study, storage_option
from ssdtune.cli.study_inputs import check_stored, load_inputs
from ssdtune.cli.study_read import print_before_after
from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.files import check_writable

if TYPE_CHECKING:
    import optuna

    from ssdtune.study.record import StudyRecord
    from ssdtune.study.trials import ScoredTrial
    from ssdtune.task import Task
    from ssdtune.unlearning.method import Params

LOOKED_AT, CLOSE = 8, 0.01
"""Slices of each set that an applied model is measured on again, and how far their mean quality may be off."""


@click.command(
    short_help="Write the unlearned checkpoint.", epilog="Example: ssdtune study apply mine --out unlearned.ckpt"
)
@click.argument("name")
@click.option("--trial", "number", type=click.IntRange(min=0), help="A finished trial.  [default: the best feasible]")
@file_option("--out", "CKPT", "The new checkpoint.", required=True)
@click.option("--overwrite", is_flag=True, help="Replace CKPT; never the original checkpoint.")
@storage_option
@device_option
@json_option
def apply(
    name: str, number: int | None, out: Path, overwrite: bool, storage: str | None, device: str, as_json: bool
) -> None:
    """Write the unlearned checkpoint, in the form of the original, with its provenance inside.

    Stock fastMRI loads it as it loaded the original. Whatever else in the original holds weights (averages, a second
    copy, the optimiser's state) is left out and named. Prints measures before and after.
    """
    from ssdtune.study.record import read_record

    study = open_study(name, storage)
    record = read_record(study)
    check_stored(record)
    chosen = choose(study, number)
    check_finite(chosen, name)
    check_writable(out, error=ModelError)
    # imported once the study is known to be there: these take seconds
    from ssdtune.mri.networks.checkpoint import check_suffix
    from ssdtune.mri.networks.models import load_model, save_model
    from ssdtune.mri.networks.train import check_free

    check_free(out, overwrite)
    from ssdtune.study.run import setting_seed
    from ssdtune.study.trials import trial_record
    from ssdtune.studyfile import StudyFile
    from ssdtune.unlearning.method import run

    task, unlearner = load_inputs(name, record, device)
    source = StudyFile.from_json(record.study_file or {}).model.checkpoint
    if out.exists() and out.samefile(source):
        raise ConfigError("--out is the original checkpoint", out, "name another file")
    loaded = load_model(source)
    check_suffix(out, loaded.checkpoint)
    check_notes(chosen, unlearner.notes(chosen.setting), name)
    params = run(unlearner, chosen.setting, setting_seed(record, chosen.setting)).params
    check_slices(chosen, task, params, name)
    left_out = save_model(out, loaded, params, provenance(study, record, chosen))
    if as_json:
        written = {"study": name, "checkpoint": str(out), "left_out": left_out}
        print_json(written | trial_record(chosen) | {"baseline": dict(record.baseline)})
        return
    if left_out:
        click.echo(f"left out, as it may hold the old weights: {', '.join(left_out)}")
    click.echo(f"{out}: trial {chosen.number}, {chosen.setting_in_words()}")
    print_before_after(study, chosen, next_line(storage, "study", "show", name) if number is None else None)


def check_notes(item: ScoredTrial, notes: Mapping[str, float], name: str) -> None:
    """Refuse to apply a setting that does not do now what was scored, as far as the method's notes tell.

    Raises DataError: the Fisher analysis is another one than the trial was scored with.
    """
    from math import isclose

    from ssdtune.study.record import read_trial

    recorded = read_trial(item.trial)
    for key, value in notes.items():
        known = recorded.get(key)  # None also where it was not finite
        if known is not None and not isclose(value, known, rel_tol=1e-3, abs_tol=1e-6):
            what = f"trial {item.number} was scored with {key} {known:.6g}, it comes to {value:.6g} here"
            raise DataError(what, f"study '{name}'", "clear ssdtune's cache, or run the study anew on this machine")


def check_finite(item: ScoredTrial, name: str) -> None:
    """Raise ConfigError for a trial whose model gives output that is not finite."""
    from ssdtune.study.record import read_trial

    if read_trial(item.trial).get("non_finite"):
        what = f"trial {item.number} gave output that is not finite"
        raise ConfigError(what, f"study '{name}'", "name another trial with --trial")


def check_slices(item: ScoredTrial, task: Task, params: Params, name: str) -> None:
    """Refuse parameters whose first slices of either set are not what the trial recorded, to rounding.

    Raises DataError: they differ by more than ``CLOSE`` on average.
    """
    from ssdtune.objective.evaluator import Evaluator
    from ssdtune.study.record import read_columns

    columns = read_columns(item.trial)
    found = Evaluator(task).start(params)
    for which in ("retain", "forget"):
        if which in columns:
            found.extend(which, min(LOOKED_AT, len(columns[which])))
            here = found.quality(which)
            recorded = columns[which][: len(here)]
            if not abs(here.mean() - recorded.mean()) <= CLOSE:
                what = (
                    f"trial {item.number} had {which} quality {recorded.mean():.4f}, applied it has {here.mean():.4f}"
                )
                raise DataError(what, f"study '{name}'", "run the study anew on this machine")


def provenance(study: optuna.Study, record: StudyRecord, item: ScoredTrial) -> dict[str, Any]:
    """What an unlearned checkpoint says of itself, as plain JSON values; files by name, without their folders."""
    from ssdtune.study.trials import trial_record

    return {
        "study": study.study_name,
        "trial": trial_record(item),
        "method": dict(record.method),
        "score": asdict(record.rule),
        "floor_source": record.floor_source,
        "baseline": dict(record.baseline),
        "identity": dict(record.identity),
        "versions": dict(record.versions),
        "created": record.created,
        "study_file": _without_folders(record.study_file),
    }


def _without_folders(value: Any) -> Any:
    """A resolved study file that does not tell whose machine it was made on."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def choose(study: optuna.Study, number: int | None) -> ScoredTrial:
    """The trial of this number, None: the best feasible one."""
    from ssdtune.study.trials import best_to_apply, find_trial

    if number is not None:
        return find_trial(study, number)
    return best_to_apply(study, "run more trials, or name a trial with --trial")
