"""``ssdtune study create`` and ``delete``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdtune.cli.computing import open_task
from ssdtune.cli.console import json_option, print_json, print_table, say, study_file_argument, track, words_of
from ssdtune.cli.storage import device_option, next_line, open_study, storage_option
from ssdtune.cli.study_inputs import read_study_file
from ssdtune.cli.study_read import print_measures
from ssdtune.errors import ConfigError
from ssdtune.studyfile import SAMPLER_NAMES
from ssdtune.studyfile import check_name as check_study_name

if TYPE_CHECKING:
    from ssdtune.study.record import StudyRecord
    from ssdtune.studyfile import StudyFile
    from ssdtune.unlearning.methods import Chosen


def check_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Click callback: refuses what cannot be a study's name."""
    try:
        return None if value is None else check_study_name(value)
    except ValueError as reason:
        raise click.BadParameter(f"'{value}' is no study name: {reason}") from reason


@click.command(
    short_help="Check everything, measure the untouched model, write the study.",
    epilog="Example: ssdtune study create mine.toml --method ssd --name mine-ssd",
)
@study_file_argument
@click.option("--name", callback=check_name, help="Instead of the study file's name.")
@click.option("--method", metavar="NAME", help="Instead of method.name; see ssdtune study methods.")
@click.option("--sampler", type=click.Choice(SAMPLER_NAMES), help="Instead of search.sampler.")
@click.option("--trials", type=click.IntRange(min=1), help="Instead of search.trials.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of search.seed.")
@click.option(
    "--parents",
    metavar="STUDY,...",
    help="Finished studies of the task whose trials compose takes.  [default: all there are in the storage]",
)
@click.option("--from", "before", metavar="STUDY", help="An applied study that this one follows on.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, from headers and a few slices; write nothing.")
@storage_option
@device_option
@json_option
def create(
    study_file: Path,
    name: str | None,
    method: str | None,
    sampler: str | None,
    trials: int | None,
    seed: int | None,
    parents: str | None,
    before: str | None,
    dry_run: bool,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Check the study file and all it names, measure the untouched model, and write the study.

    Nothing is written unless everything is sound: files, model, shapes, disjoint and non-empty sets, something to
    forget. With --from the model is the checkpoint that was written by study apply, and every trial is also measured on
    what that study forgot, and on what was forgotten before it (data.earlier).
    """
    resolved, chosen = read_study_file(study_file, method)
    if before is not None:
        from ssdtune.study.record import read_record
        from ssdtune.study.sequel import following

        resolved = following(resolved, before, read_record(open_study(before, storage)))
    from ssdtune.study.storage import check_new_name, open_storage, quick_commits, quiet_optuna, shown

    quiet_optuna()
    asked = {"sampler": sampler, "trials": trials, "seed": seed}
    search = resolved.search.model_copy(update={key: value for key, value in asked.items() if value is not None})
    name = name or resolved.name
    resolved = resolved.model_copy(update={"name": name, "search": search})
    composes = "parents" in chosen.method.Options.model_fields
    if parents is not None and not composes:
        raise ConfigError(f"method '{chosen.method.name}' has no parents", "--parents", "leave it out, or take compose")
    check_new_name(name, storage)
    if dry_run:
        _foresee(resolved, chosen, device, as_json)
        return
    # imported once file and name are known to be good: these take seconds
    from ssdtune.cli.study_inputs import check_mapper
    from ssdtune.fisher.memory import plan_memory
    from ssdtune.mri.task import settle
    from ssdtune.report.dashboard import attach
    from ssdtune.study.create import begin_study, measure_record

    check_mapper(search)
    resolved = settle(resolved, say)
    task = open_task(resolved, device)
    if composes and (parents is not None or not resolved.method.model_dump()["parents"]):
        from ssdtune.study.parents import with_parents

        names = words_of(parents or "")
        resolved = with_parents(resolved, chosen, names, open_storage(storage), task)
    parameters = sum(value.numel() for value in task.params.values())
    plan_memory(parameters, (), resolved.fisher.memory_budget_gib * 2**30)  # refuses what no analysis can keep to
    record = measure_record(task, study_file=resolved, track=track)
    opened = open_storage(storage, create=True)
    with quick_commits(opened):
        attach(begin_study(name, record, opened))
    if as_json:
        print_json({"name": name, "storage": shown(storage), **record.to_attributes()})
        return
    click.echo(f"study {name} in {shown(storage)}")
    _print_record(record, next_line(storage, "study", "show", name))
    fold = getattr(task.retain, "true_acceleration", None)
    truth = f", {fold:.2f}x in truth" if fold else ""
    click.echo(f"masks: {resolved.mask.in_words()}{truth}; loss: {resolved.fisher.loss}")
    click.echo(f"next: {next_line(storage, 'study', 'run', name)}")


def _foresee(study: StudyFile, chosen: Chosen, device: str, as_json: bool) -> None:
    """What the study would take."""
    from ssdtune.mri.stand_in import stand_in
    from ssdtune.study.create import check_needs
    from ssdtune.study.foresight import foresee, method_passes
    from ssdtune.unlearning.methods import uses_analysis

    task = open_task(study, device, headers_only=True)
    passes = 0.0
    if "parents" not in chosen.method.Options.model_fields:  # else it takes finished trials, which are not looked for
        check_needs(task, chosen)
        passes = method_passes(chosen, stand_in(task))
    keys = ("samples", "memory_budget_gib")  # of a method with an analysis of its own
    own = {key: getattr(chosen.options, key) for key in keys if hasattr(chosen.options, key)}
    found = foresee(task, study.fisher.model_copy(update=own), study.search.trials, uses_analysis(chosen), passes)
    if as_json:
        print_json({"name": study.name, **found.document()})
    else:
        print_table(["what", "it takes"], found.rows(), title=f"{study.name}, not made: from headers and three slices")


@click.command(short_help="Delete a study with all its trials.", epilog="Example: ssdtune study delete mine --yes")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
@json_option
def delete(name: str, yes: bool, storage: str | None, as_json: bool) -> None:
    """Delete a study with all its trials, and its pictures in the dashboard. Asks first."""
    from ssdtune.report.artifacts import artifact_place, open_artifacts, remove_artifacts
    from ssdtune.study.create import delete_study
    from ssdtune.study.storage import open_storage
    from ssdtune.study.trials import count_trials

    study = open_study(name, storage)
    finished = count_trials(study).finished
    # the question goes to standard error, out of the way of JSON
    wanted = yes or click.confirm(f"delete study {name} with its {finished} finished trials?", err=as_json)
    if wanted:
        left = remove_artifacts(study, open_artifacts(artifact_place(storage=storage)))
        if left:
            click.echo(f"warning: {left} pictures of it stay, as SSDTUNE_ARTIFACTS names no place of theirs", err=True)
        delete_study(name, open_storage(storage))
    if as_json:
        print_json({"study": name, "deleted": wanted, "trials": finished})
    else:
        click.echo(f"deleted study {name}" if wanted else "kept")


def _print_record(record: StudyRecord, show: str) -> None:
    from ssdtune.report.statement import LOW_FLOOR, is_low

    rule = record.rule
    knobs = ", ".join(f"{knob.name} in [{knob.low:g}, {knob.high:g}]" for knob in record.knobs)
    click.echo(f"method: {record.method['name']}, {knobs or 'nothing to search'}")
    for parent in record.method.get("parents", ()):
        click.echo(f"parent: {parent['trial']}")
    click.echo(f"sampler: {record.search.sampler} ({record.sampler}), seed {record.search.seed}")
    click.echo(f"budget: {record.search.trials} trials")
    click.echo(
        f"score: retain_weight {rule.retain_weight:g}, min_retained {rule.min_retained:g}, {rule.kind}; "
        f"floor {rule.floor:.4f} from {record.floor_source}"
    )
    if is_low(record):
        click.echo(f"{LOW_FLOOR} An oracle, clean targets or score.floor give a better one.")
    print_measures(record, None, show)
