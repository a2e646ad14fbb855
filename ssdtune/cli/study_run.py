"""``ssdtune study run``: the trials that are left, with the best so far and what time they still take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.console import json_option, print_json, print_table, track
from ssdtune.cli.storage import device_option, next_line, storage_option
from ssdtune.cli.study_inputs import load_inputs, print_warnings
from ssdtune.cli.study_read import best_document, print_best
from ssdtune.errors import ConfigError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from ssdtune.objective.precision import Precision
    from ssdtune.study.record import StudyRecord
    from ssdtune.unlearning.method import Unlearner


@click.command(short_help="Run a study, or go on with it.")
@click.argument("name")
@click.option(
    "--trials", type=click.IntRange(min=1), help="Finished trials the study is to have in all.  [default: its budget]"
)
@click.option("--exact", is_flag=True, help="Every slice of every trial, one by one in float32; nothing is reused.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What networks compute in; bfloat16 only where it moves the quality of none of the first slices by 1e-3.",
)
@storage_option
@device_option
@json_option
def run(
    name: str, trials: int | None, exact: bool, precision: Precision, storage: str | None, device: str, as_json: bool
) -> None:
    """Run a study until it has all its trials; run it again after a stop to go on.

    Trials that are clearly not the best are stopped early and keep an estimate; the best is always evaluated in full.
    Ctrl-C keeps every finished trial. Inputs that changed since the study was made are refused.
    """
    from ssdtune.study.record import read_record
    from ssdtune.study.storage import GRACE, load_study, open_storage, quiet_optuna
    from ssdtune.study.trials import count_trials

    if exact and precision == "bfloat16":
        raise ConfigError("--exact computes in float32", "--precision bfloat16", "leave one of the two out")
    quiet_optuna()
    opened = open_storage(storage)
    study = load_study(name, opened, storage)
    record = read_record(study)
    report = Report(record, trials or record.search.trials)
    again = next_line(f"study run {name}", storage)
    try:
        carry_out(study, opened, report, device, exact=exact, precision=precision)
    except KeyboardInterrupt:
        finished = count_trials(study).finished
        click.echo(f"stopped: {finished} of {report.total} trials are finished and kept; go on with: {again}", err=True)
        sys.exit(130)
    from ssdtune.report.statement import next_commands
    from ssdtune.report.view import read_view
    from ssdtune.study.cost import cost_of

    counts = count_trials(study)
    if not counts.finished:
        todo = "wait for one; ssdtune study show says how many are finished"
        raise ConfigError(f"all trials ({counts.running}) are under way in other processes", f"study '{name}'", todo)
    if counts.finished < report.total and counts.running:
        what = f"{counts.finished} of {report.total} trials are finished, {counts.running} under way in other processes"
        click.echo(f"{what}; those that are lost are taken over after {GRACE // 60} minutes: {again}", err=True)
    if report.started >= report.total:
        click.echo(
            f"study {name} has {report.started} finished trials already; ask for more with: {again} --trials N",
            err=True,
        )
    if as_json:
        print_json({**best_document(study), "cost": cost_of(study).document()})
        return
    print_best(study)
    print_table(["account", ""], cost_of(study).rows())
    for command in next_commands(read_view(study)):
        click.echo(f"next: {next_line(command.removeprefix('ssdtune '), storage)}")


def carry_out(
    study: optuna.Study,
    storage: optuna.storages.RDBStorage,
    report: Report,
    device: str,
    *,
    exact: bool = False,
    precision: Precision = "float32",
) -> None:
    """Load what a study works on and run it until it has all trials that ``report`` is of.

    ``storage`` is where the study is. Its note and figures in the dashboard are brought up to date.

    Raises
    ------
    ConfigError, DataError, ModelError : inputs that cannot be used, or that changed since the study was made.
    TrialError, StorageError, KeyboardInterrupt : as ``run_study``; finished trials are kept.
    """
    # imported once the study is known to be there: these take seconds
    from ssdtune.device import keep_freed_memory
    from ssdtune.report.dashboard import attach
    from ssdtune.report.spectrum import spectrum_figures, view_spectrum
    from ssdtune.study.lost import release_lost_trials
    from ssdtune.study.prior import check_sampler
    from ssdtune.study.run import run_study
    from ssdtune.study.storage import quick_commits, storage_errors
    from ssdtune.study.trials import count_trials

    with storage_errors():
        check_sampler(study, report.record)
        release_lost_trials(study)
    keep_freed_memory()
    task, unlearner = load_inputs(study.study_name, report.record, device)
    if unlearner.analysis is not None:
        attach(study, figures=spectrum_figures(view_spectrum(unlearner.analysis)))
    print_warnings(unlearner.analysis)
    _print_prior(study, report.record, unlearner)
    report.begin(count_trials(study).finished)
    try:
        with quick_commits(storage):
            run_study(
                study,
                task,
                unlearner,
                trials=report.total,
                exact=exact,
                precision=precision,
                on_trial=report,
                say=_say,
                track=track,
            )
    finally:
        attach(study)


def _print_prior(study: optuna.Study, record: StudyRecord, unlearner: Unlearner) -> None:
    """Where the search starts, and whether it leans on the data."""
    from ssdtune.samplers.table import choose_sampler
    from ssdtune.study.prior import fix_prior

    if choose_sampler(record.search.sampler).uses_prior:
        fixed = fix_prior(study, record, unlearner)
        words = fixed.in_words() if fixed else "none for this method and score; the search leans on the data"
        click.echo(f"prior: {words}", err=True)


class Report:
    """One line on standard error for each trial: its score, the best so far, the time left.

    total : trials that the study is to have. started : those it had at the start. ran : those finished here.
    """

    def __init__(self, record: StudyRecord, total: int) -> None:
        self.record, self.total, self.ran = record, total, 0
        self.begin(0)

    def begin(self, started: int) -> None:
        """The first trial is about to start."""
        self.started, self.start = started, time.monotonic()

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        from ssdtune.study.record import read_trial
        from ssdtune.study.trials import best_of, scored_trials

        self.ran += 1
        scored = scored_trials(study, record=self.record)
        done, values = len(scored), read_trial(trial)
        this = next(item for item in scored if item.number == trial.number)
        best = best_of(scored)
        left = (time.monotonic() - self.start) / max(done - self.started, 1) * max(self.total - done, 0)
        eta = timedelta(seconds=round(left))
        words = [
            f"{done}/{self.total}",
            f"score {this.score.value:.4f}",
            f"retained {this.score.retained:.3f}",
            f"remembered {this.score.remembered:.3f}" + _remark(values, this.score.feasible),
        ]
        if best is not None:
            words.append(
                f"best {best.score.value:.4f} (trial {best.number})"
                + _remark(read_trial(best.trial), best.score.feasible)
            )
        # not click.echo, which writes past the progress bar that holds the terminal's last line
        words += [
            f"eta {eta}",
            *(f"{name} {value:.4g}" for name, value in this.setting.items()),
        ]
        print("  ".join(words), file=sys.stderr, flush=True)


def _remark(values: Mapping[str, Any], feasible: bool) -> str:
    if values.get("non_finite"):
        return " not finite"
    words = "" if feasible else " infeasible"
    return words + (f" (stopped after {values['step']} slices)" if "stopped" in values else "")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
