"""``ssdtune study evaluate``: the field's measures of a trial's model, kept with the trial."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdtune.cli.console import json_option, print_json, print_table, track
from ssdtune.cli.storage import device_option, next_line, open_study, storage_option
from ssdtune.cli.study_apply import check_finite, check_notes, check_slices, choose
from ssdtune.cli.study_inputs import analysis_of, load_task_of, prepare_timed
from ssdtune.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from ssdtune.audit.losses import Params
    from ssdtune.study.record import StudyRecord
    from ssdtune.task import Task

CHECKPOINT = click.Path(dir_okay=False, path_type=Path)


@click.command(
    short_help="The field's measures of an unlearned model.", epilog="Example: ssdtune study evaluate mine --trial 12"
)
@click.argument("name")
@click.option("--trial", "number", type=click.IntRange(min=0), help="A finished trial.  [default: the best feasible]")
@click.option(
    "--unlearned",
    multiple=True,
    metavar="CKPT",
    type=CHECKPOINT,
    help="For LiRA: a model trained from another seed and unlearned likewise; may be repeated.",
)
@click.option(
    "--oracle",
    "oracles",
    multiple=True,
    metavar="CKPT",
    type=CHECKPOINT,
    help="For LiRA: an oracle trained from another seed; may be repeated.",
)
@storage_option
@device_option
@json_option
def evaluate(
    name: str,
    number: int | None,
    unlearned: tuple[Path, ...],
    oracles: tuple[Path, ...],
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure a trial's model as the literature does, beside the untouched model and the oracle.

    Quality on forget slices (UA), retain test slices (BTA) and forget test slices (KTA) with its spread over volumes,
    ToW, oracle gap, relearn time and AIN, membership inference, the corrective pair, distances of weights, time. Kept
    with the trial and shown in reports. What needs an oracle, or forget slices that no model has seen (data.unseen), is
    left out without them, and said.
    """
    from ssdtune.study.record import read_record

    study = open_study(name, storage)
    record = read_record(study)
    chosen = choose(study, number)
    check_finite(chosen, name)
    check_peers(unlearned, oracles, record)
    from ssdtune.audit.audit import Peers, audit
    from ssdtune.mri.floors import zero_filled
    from ssdtune.report.evaluation import audit_columns, audit_rows
    from ssdtune.study.audit import write_audit
    from ssdtune.study.run import setting_seed
    from ssdtune.study.storage import storage_errors
    from ssdtune.unlearning.method import run

    task = load_task_of(name, record, device)
    unlearner, before = prepare_timed(task, record.chosen, analysis_of(task, record.fisher), track)
    peers = Peers([load_peer(path, task) for path in unlearned], [load_peer(path, task) for path in oracles])
    check_notes(chosen, unlearner.notes(chosen.setting), name)
    started = time.perf_counter()
    stage = run(unlearner, chosen.setting, setting_seed(record, chosen.setting))
    seconds = time.perf_counter() - started
    check_slices(chosen, task, stage.params, name)
    once = unlearner.preparation, before
    found = audit(task, stage, seconds, once=once, reference=zero_filled, peers=peers, track=track)
    with storage_errors():
        write_audit(study, chosen.number, found)
    if as_json:
        print_json({"study": name, "trial": chosen.number, "setting": dict(chosen.setting), **found.to_json()})
        return
    click.echo(f"trial {chosen.number}: {chosen.setting_in_words()}")
    print_table(audit_columns(found), audit_rows(found))
    for label, words in found.sets.items():
        click.echo(f"{label}: {words}")
    for words in found.missing:
        click.echo(f"not measured: {words}")
    click.echo(f"in the report: {next_line(storage, 'report', name)}")


def check_peers(unlearned: tuple[Path, ...], oracles: tuple[Path, ...], record: StudyRecord) -> None:
    """Raise ConfigError for models that LiRA cannot be made of, before the long work."""
    if (unlearned or oracles) and min(len(unlearned), len(oracles)) < 2:
        what = f"LiRA takes 2 models or more of each kind, got {len(unlearned)} unlearned and {len(oracles)} oracles"
        raise ConfigError(what, "--unlearned, --oracle", "name more of them, or none")
    if unlearned and record.oracle is None:
        what = "LiRA tells the model from the study's oracle, and there is none"
        raise ConfigError(what, "--unlearned, --oracle", "leave them out, or create the study with model.oracle")


def load_peer(path: Path, task: Task) -> Params:
    """The parameters of another model of the task's sizes.

    Raises
    ------
    ModelError : it cannot be read, or is another network.
    """
    from ssdtune.mri.networks.models import load_model
    from ssdtune.task import shapes_of

    params = dict(load_model(path).module.named_parameters())
    if shapes_of(params) != shapes_of(task.params):
        raise ModelError("another network than the study's model", path, "name models of the same sizes")
    return {name: value.detach().to(task.device) for name, value in params.items()}
