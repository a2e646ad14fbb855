"""``ssdtune study list``, ``show``, ``best``, ``export``: what is recorded, without a new evaluation."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.console import file_option, json_option, print_json, print_rows, print_table
from ssdtune.cli.storage import open_study, storage_option
from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    import optuna

    from ssdtune.report.volumes import Interval
    from ssdtune.study.record import StudyRecord
    from ssdtune.study.trials import ScoredTrial

TOP = 5
MOST_MEASURES = 12
"""Rows of a table of measures that are shown without being asked for all."""


@click.command("list", short_help="The studies of a storage.", epilog="Example: ssdtune study list")
@storage_option
@json_option
def list_studies(storage: str | None, as_json: bool) -> None:
    """List the studies of a storage."""
    from ssdtune.study.storage import load_study, open_storage, quiet_optuna, shown, study_names

    quiet_optuna()
    opened = open_storage(storage)
    rows = [list_row(load_study(name, opened, storage)) for name in study_names(opened)]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo(f"no studies in {shown(storage)}; create one with: ssdtune study create STUDY.toml")
    else:
        print_rows(rows)


@click.command(
    short_help="What a study was made with, how far it is, its best trials.", epilog="Example: ssdtune study show mine"
)
@click.argument("name")
@storage_option
@json_option
def show(name: str, storage: str | None, as_json: bool) -> None:
    """Show what a study was made with, how far it is, and its best trials."""
    from ssdtune.report.statement import fact_rows, finding
    from ssdtune.report.view import read_view
    from ssdtune.study.cost import cost_of
    from ssdtune.study.export import study_document

    study = open_study(name, storage)
    view = read_view(study)
    if as_json:
        document = study_document(study)
        counts = {key: getattr(view.counts, key) for key in ("finished", "running", "failed", "interrupted")}
        if view.prior is not None:
            document["prior"] = view.prior.summary()
        document["cost"] = cost_of(study).document()
        print_json(
            {**document, "trials": counts, "best": trial_document(view.best, view.record) if view.best else None}
        )
        return
    click.echo(f"study {name}: {finding(view)}")
    print_table(["fact", "value"], fact_rows(view))
    if view.trials:
        print_table(["account", ""], cost_of(study).rows())
    print_top(view.trials, "best trials")
    print_measures(view.record, view.best)


@click.command(short_help="The best trial, before and after.", epilog="Example: ssdtune study best mine --json")
@click.argument("name")
@storage_option
@json_option
def best(name: str, storage: str | None, as_json: bool) -> None:
    """Show a study's best feasible trial, before and after; without one, the nearest, which may be an estimate."""
    study = open_study(name, storage)
    if as_json:
        print_json(best_document(study))
    else:
        print_best(study)


@click.command(short_help="Write a study as JSON or CSV.", epilog="Example: ssdtune study export mine --out mine.csv")
@click.argument("name")
@file_option("--out", "FILE", "A .json or .csv file.", required=True)
@storage_option
@json_option
def export(name: str, out: Path, storage: str | None, as_json: bool) -> None:
    """Write a study as JSON (everything) or CSV (one row a trial)."""
    from ssdtune.study.export import export_study

    study = open_study(name, storage)
    path, trials = export_study(study, out), len(study.get_trials(deepcopy=False))
    if as_json:
        print_json({"study": name, "file": str(path), "trials": trials})
    else:
        click.echo(f"{path}: {trials} trials of {name}")


@click.command(
    "methods", short_help="The ways to unlearn, and what each searches.", epilog="Example: ssdtune study methods"
)
@json_option
def list_methods(as_json: bool) -> None:
    """List the methods that can be had here, with their knobs; `[method] name` or `create --method` chooses one."""
    from ssdtune.unlearning.methods import describe_methods

    rows = describe_methods()
    if as_json:
        print_json(rows)
    else:
        print_table(["method", "knobs", ""], [[row["name"], ", ".join(row["knobs"]), row["summary"]] for row in rows])


def list_row(study: optuna.Study) -> dict[str, Any]:
    """A study's line in a list of studies."""
    from ssdtune.study.record import is_ours, read_record
    from ssdtune.study.trials import best_of, count_trials, scored_trials

    record = read_record(study) if is_ours(study.user_attrs) else None
    found = best_of(scored_trials(study)) if record is not None else None
    return {
        "name": study.study_name,
        "method": record and record.method["name"],
        "sampler": record and record.search.sampler,
        "trials": count_trials(study).finished,
        "of": record and record.search.trials,
        "best": found and found.score.value,
        "retained": found and found.score.retained,
        "remembered": found and found.score.remembered,
        "feasible": found and found.score.feasible,
        "created": record and record.created,
    }


def best_document(study: optuna.Study) -> dict[str, Any]:
    """The best trial as plain JSON values, with the untouched model's and the oracle's measures."""
    from ssdtune.study.record import read_record
    from ssdtune.study.trials import scored_trials

    found = leading_trial(scored_trials(study), study.study_name)
    interval = _interval(study, found)
    document = {"study": study.study_name, **trial_document(found, read_record(study))}
    return document | {"retained_interval": interval and interval.document()}


def print_best(study: optuna.Study, show: str | None = None) -> None:
    """The best trial in one line, and its measures beside the untouched model's, as ``print_measures``."""
    from ssdtune.study.trials import scored_trials

    found = leading_trial(scored_trials(study), study.study_name)
    if not found.score.feasible:
        click.echo("no feasible trial yet; the nearest is")
    elif found.estimated:
        click.echo("no trial beats the untouched model yet; the nearest is")
    click.echo(trial_in_words(found))
    print_before_after(study, found, show)


def print_before_after(study: optuna.Study, item: ScoredTrial, show: str | None) -> None:
    """Measures before and after, as ``print_measures``, and how sure ``retained`` is."""
    from ssdtune.study.record import read_record

    print_measures(read_record(study), item, show)
    if (interval := _interval(study, item)) is not None:
        click.echo(f"retained: {interval.in_words()}")


def print_measures(record: StudyRecord, item: ScoredTrial | None, show: str | None = None) -> None:
    """Measures of the untouched model, of a trial beside it if one is given, and of the oracle where there is one.

    show : the command that prints all; where they are many, only the main ones are printed, and it below them.
    """
    from ssdtune.study.record import as_number
    from ssdtune.study.trials import measures_of

    names = list(record.baseline) if show is None else main_measures(record.baseline)
    before = {name: as_number(record.baseline[name]) for name in names}
    columns = {"untouched": before}
    if item is not None:
        after = measures_of(item, record)
        columns = {"before": before, "after": after, "change": {name: after[name] - before[name] for name in names}}
    if record.oracle:
        columns["oracle"] = {name: as_number(record.oracle.get(name)) for name in names}
    print_table(["measure", *columns], [[name, *(column[name] for column in columns.values())] for name in names])
    if len(names) < len(record.baseline):
        click.echo(f"all {len(record.baseline)} measures: {show}")


def main_measures(names: Iterable[str]) -> list[str]:
    """All of a dozen; else neither means over volumes, which follow those over slices, nor NMSE, which follows PSNR."""
    names = list(names)
    main = [name for name in names if "_volume_" not in name and not name.endswith("_nmse")]
    return main if len(names) > MOST_MEASURES else names


def _interval(study: optuna.Study, item: ScoredTrial) -> Interval | None:
    """How sure ``retained`` is, of the study's best trial."""
    from ssdtune.report.view import read_view
    from ssdtune.report.volumes import retained_interval

    view = read_view(study)
    return retained_interval(view) if view.best is not None and view.best.number == item.number else None


def leading_trial(scored: list[ScoredTrial], name: str) -> ScoredTrial:
    """The best trial, or the nearest to it. Raises ConfigError: no trial has finished."""
    from ssdtune.study.trials import leading

    found = leading(scored)
    if found is None:
        raise ConfigError(
            "no finished trial yet", f"study '{name}'", f"run it with: ssdtune study run {shlex.quote(name)}"
        )
    return found


def trial_document(item: ScoredTrial, record: StudyRecord) -> dict[str, Any]:
    """A trial with what it is compared to, as plain JSON values."""
    from ssdtune.study.trials import trial_record

    return {**trial_record(item), "baseline": dict(record.baseline), "oracle": record.oracle and dict(record.oracle)}


def trial_in_words(item: ScoredTrial) -> str:
    """Setting and score in a line, and what is the matter with it."""
    score = item.score
    return (
        f"trial {item.number}: {item.setting_in_words()}, score {score.value:.4f}, "
        f"retained {score.retained:.4f}, remembered {score.remembered:.4f}"
        + ("" if score.feasible else f", infeasible by {score.violation:.4f}")
        + (", estimated, as it was stopped early" if item.estimated else "")
    )


def score_row(item: ScoredTrial) -> dict[str, Any]:
    """A trial under some score rule, as a row of a table."""
    score = item.score
    return {
        "trial": item.number,
        **item.setting,
        "score": score.value,
        "retained": score.retained,
        "remembered": score.remembered,
        "feasible": score.feasible,
        "estimated": item.estimated,
    }


def print_top(scored: list[ScoredTrial], title: str) -> None:
    """The best of the trials that were evaluated in full, as a table."""
    scored = [item for item in scored if not item.estimated]
    ranked = sorted(scored, key=lambda item: (not item.score.feasible, max(item.score.violation, 0), -item.score.value))
    rows = [score_row(item) for item in ranked[:TOP]]
    # trials of several methods have knobs of their own
    names = dict.fromkeys(name for row in rows for name in row if name != "estimated")
    print_rows([{name: row.get(name) for name in names} for row in rows], title)
