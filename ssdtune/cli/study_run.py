"""``ssdtune study run``: the trials that are left, with the best so far and what time they still take."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.computing import open_ray, ray_option
from ssdtune.cli.console import bar, json_option, print_json, print_table
from ssdtune.cli.storage import device_option, next_line, storage_option, typed_options
from ssdtune.cli.study_inputs import check_stored, load_inputs, print_warnings
from ssdtune.cli.study_read import best_document, print_best
from ssdtune.errors import ConfigError, StorageError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from ssdtune.cli.computing import OnRay
    from ssdtune.objective.precision import Precision
    from ssdtune.study.record import StudyRecord
    from ssdtune.task import Task
    from ssdtune.unlearning.method import Unlearner


@click.command(short_help="Run a study, or go on with it.", epilog="Example: ssdtune study run mine --trials 50")
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
@ray_option
@storage_option
@device_option
@json_option
def run(
    name: str,
    trials: int | None,
    exact: bool,
    precision: Precision,
    address: str | None,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Run a study until it has all its trials; run it again after a stop to go on.

    Trials that are clearly not the best are stopped early and keep an estimate; the best is always evaluated in full.
    Ctrl-C keeps every finished trial. Inputs that changed since the study was made are refused.
    """
    from ssdtune.study.interrupts import exit_code
    from ssdtune.study.patience import Patience, waited_for
    from ssdtune.study.record import read_record
    from ssdtune.study.storage import GRACE, load_study, open_storage, quiet_optuna, storage_errors

    if exact and precision == "bfloat16":
        raise ConfigError("--exact computes in float32", "--precision bfloat16", "leave one of the two out")
    quiet_optuna()
    opened = open_storage(storage)
    patience = Patience(on_change=_storage_changed)
    study = load_study(name, waited_for(opened, patience), storage)
    record = read_record(study)
    check_stored(record)
    from ssdtune.study.trials import count_trials  # loads torch

    report = Report(record, trials or record.search.trials)
    again = next_line(storage, "study", "run", name, *typed_options())
    try:
        with open_ray(address, device) as on_ray:
            carry_out(study, opened, report, device, exact=exact, precision=precision, on_ray=on_ray)
    except KeyboardInterrupt as reason:
        patience.seconds, words = 0.0, "all finished trials are kept"  # from now on nothing is waited for
        with suppress(StorageError), storage_errors():
            words = f"{count_trials(study).finished} of {report.total} trials are finished and kept"
        click.echo(f"stopped: {words}; go on with: {again}", err=True)
        sys.exit(exit_code(reason))
    from ssdtune.report.statement import next_commands
    from ssdtune.report.view import read_view
    from ssdtune.study.cost import cost_of

    counts = count_trials(study)
    if not counts.finished:
        todo = f"wait for one; how many are finished: {next_line(storage, 'study', 'show', name)}"
        raise ConfigError(f"all trials ({counts.running}) are under way in other processes", f"study '{name}'", todo)
    if counts.finished < report.total and counts.running:
        what = f"{counts.finished} of {report.total} trials are finished, {counts.running} under way in other processes"
        click.echo(f"{what}; those that are lost are taken over after {GRACE // 60} minutes: {again}", err=True)
    if report.started >= report.total:
        more = next_line(storage, "study", "run", name, *typed_options("trials"))
        words = f"study {name} has {report.started} finished trials already; ask for more with: {more} --trials N"
        click.echo(words, err=True)
    if as_json:
        print_json({**best_document(study), "cost": cost_of(study).document()})
        return
    print_best(study, next_line(storage, "study", "show", name))
    print_table(["account", ""], cost_of(study).rows())
    for command in next_commands(read_view(study)):
        click.echo(f"next: {next_line(storage, *shlex.split(command)[1:])}")


def carry_out(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    report: Report,
    device: str,
    *,
    first: Sequence[Mapping[str, Any]] = (),
    exact: bool = False,
    precision: Precision = "float32",
    on_ray: OnRay | None = None,
) -> None:
    """Load what a study works on and run it until it has all trials that ``report`` is of.

    ``storage`` is where the study is. Its note and figures in the dashboard are brought up to date. first : parameters
    of the trials to begin with. on_ray : measures its trials, and computes the analysis if none is cached.

    Raises
    ------
    ConfigError, DataError, ModelError : inputs that cannot be used, or that changed since the study was made.
    TrialError, StorageError, KeyboardInterrupt : as ``run_study``; finished trials are kept.
    """
    # imported once the study is known to be there: these take seconds
    from ssdtune.device import keep_freed_memory
    from ssdtune.report.artifacts import artifact_place, open_artifacts
    from ssdtune.report.dashboard import attach, attach_figures
    from ssdtune.report.spectrum import spectrum_figures, view_spectrum
    from ssdtune.study import interrupts
    from ssdtune.study.lost import release_lost_trials
    from ssdtune.study.prior import check_sampler
    from ssdtune.study.run import run_study
    from ssdtune.study.sqlite import quick_commits
    from ssdtune.study.storage import storage_errors
    from ssdtune.study.trials import count_trials

    with storage_errors():
        check_sampler(study, report.record)
        open_artifacts(artifact_place(), create=True)  # a place that is none is refused before the trials
        release_lost_trials(study)
    keep_freed_memory()
    with interrupts.welcome():
        task, unlearner = load_inputs(study.study_name, report.record, device, on_ray.crew if on_ray else None)
    with quick_commits(storage):  # not before: what is refused leaves the file as it was
        if unlearner.analysis is not None:
            attach_figures(study, spectrum_figures(view_spectrum(unlearner.analysis)))
        finished = count_trials(study).finished
        if not finished:
            print_warnings(unlearner.analysis)
        _print_prior(study, report.record, unlearner)
        for params in first:
            study.enqueue_trial(dict(params))
        report.begin(finished)
        try:
            run_study(
                study,
                task,
                unlearner,
                trials=report.total,
                exact=exact,
                precision=precision,
                pool=on_ray.pool if on_ray else None,
                on_trial=report,
                say=_say,
                track=bar,
            )
        except (KeyboardInterrupt, StorageError):  # an orchestrator gives it seconds; a storage was waited for already
            raise
        except BaseException:
            attach(study)
            raise
        if not count_trials(study).running:  # whoever ends the last one does it, of many workers one
            with interrupts.welcome():
                _show(study, report, task, unlearner)


def _show(study: optuna.Study, report: Report, task: Task, unlearner: Unlearner) -> None:
    """Bring note and figures in the dashboard up to date; of a finished study its pictures too, if workers share a
    place of artifacts."""
    from tempfile import TemporaryDirectory

    from ssdtune.report.artifacts import artifact_place, open_artifacts
    from ssdtune.report.dashboard import attach
    from ssdtune.report.pictures import has_images, write_pictures
    from ssdtune.report.view import read_view
    from ssdtune.study.run import setting_seed
    from ssdtune.unlearning.method import run

    best, store = read_view(study).best, open_artifacts(artifact_place(), create=True)
    if store is None or best is None or not has_images(task):
        attach(study)
        return
    params = run(unlearner, best.setting, setting_seed(report.record, best.setting)).params
    with TemporaryDirectory() as scratch:
        title = f"{study.study_name}: {best.setting_in_words()} (trial {best.number})"
        attach(study, pictures=write_pictures(task, params, scratch, title=title), artifacts=store)


def _print_prior(study: optuna.Study, record: StudyRecord, unlearner: Unlearner) -> None:
    """Where the search starts, and whether it leans on the data."""
    from ssdtune.samplers.table import choose_sampler
    from ssdtune.study.prior import fix_prior

    if choose_sampler(record.search.sampler).uses_prior:
        fixed = fix_prior(study, record, unlearner)
        words = fixed.in_words() if fixed else "none for this method and score; the search leans on the data"
        click.echo(f"prior: {words}", err=True)


class Report:
    """One line for each trial: its score, the best so far, the time left.

    total : trials that the study is to have. started : those it had at the start. tell : is given each line, and the
    same as facts; None prints to standard error.
    """

    def __init__(
        self, record: StudyRecord, total: int, tell: Callable[[str, dict[str, Any]], None] | None = None
    ) -> None:
        from ssdtune.study.trials import Scores

        self.record, self.total, self.tell = record, total, tell or (lambda words, facts: _say(words))
        self.scores = Scores(record)
        self.begin(0)

    def begin(self, started: int) -> None:
        """The first trial is about to start."""
        self.started, self.start = started, time.monotonic()

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        from ssdtune.study.record import read_trial
        from ssdtune.study.trials import score_trials

        trials = study.get_trials(deepcopy=False)
        done, best = self.scores(trials)
        # as the storage has it: one that waited was told to end before its end was written
        (this,) = score_trials([each for each in trials if each.number == trial.number], self.record)
        values = read_trial(trial)
        seconds = (time.monotonic() - self.start) / max(done - self.started, 1) * max(self.total - done, 0)
        left = timedelta(seconds=round(seconds))
        words = [
            f"trial {trial.number} ({done}/{self.total})",
            f"score {this.score.value:.4f}",
            f"retained {this.score.retained:.3f}",
            f"remembered {this.score.remembered:.3f}" + _remark(values, this.score.feasible),
        ]
        if best is not None:
            words.append(
                f"best {best.score.value:.4f} (trial {best.number})"
                + _remark(read_trial(best.trial), best.score.feasible)
            )
        words += [f"{left} left", *(f"{name} {value:.4g}" for name, value in this.setting.items())]
        facts = {
            "study": study.study_name,
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "score": this.score.value,
            "retained": this.score.retained,
            "remembered": this.score.remembered,
            "feasible": this.score.feasible,
            "finished": done,
            "of": self.total,
            "seconds": {key.removeprefix("seconds_"): spent for key, spent in values.items() if key[:8] == "seconds_"},
        }
        self.tell("  ".join(words), facts)


def _remark(values: Mapping[str, Any], feasible: bool) -> str:
    if values.get("non_finite"):
        return " not finite"
    words = "" if feasible else " infeasible"
    return words + (f" (stopped after {values['step']} slices)" if "stopped" in values else "")


def _say(words: str) -> None:
    # not click.echo, which writes past the progress bar that holds the terminal's last line
    print(words, file=sys.stderr, flush=True)


def _storage_changed(why: Exception | None, waited: float) -> None:
    from ssdtune.study.storage import why_of

    answers = f"the storage answers again, after {waited:.0f} s"
    _say(answers if why is None else f"the storage does not answer ({why_of(why)})")
