"""``ssdtune study compete``: samplers against each other on one task, and the page that says who won."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.computing import open_task
from ssdtune.cli.console import (
    file_option,
    json_option,
    print_json,
    print_table,
    say,
    study_file_argument,
    track,
    words_of,
)
from ssdtune.cli.storage import device_option, next_line, side_by_side, storage_option
from ssdtune.cli.study_create import check_name
from ssdtune.cli.study_inputs import read_study_file
from ssdtune.errors import ConfigError
from ssdtune.files import check_writable

if TYPE_CHECKING:
    import optuna

    from ssdtune.report.view import StudyView
    from ssdtune.study.compete import Entry, Studies

PLAIN = ("tpe", "gp", "random")


@click.command(
    short_help="Samplers against each other on one task, as one page.",
    epilog="Example: ssdtune study compete mine.toml --samplers spectrum,tpe",
)
@study_file_argument
@click.option("--method", metavar="NAME", help="Instead of method.name.")
@click.option(
    "--samplers",
    metavar="A,B,...",
    help=f"Samplers by name.  [default: the method's own, {', '.join(PLAIN)}]",
)
@click.option("--trials", type=click.IntRange(min=1), help="Of each study.  [default: search.trials]")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Studies of each sampler.")
@click.option(
    "--name", callback=check_name, help="Instead of the study file's name; studies are called NAME-SAMPLER-sSEED."
)
@file_option("--out", "PAGE.html", "The page.  [default: NAME-competition.html]")
@storage_option
@device_option
@json_option
def compete(
    study_file: Path,
    method: str | None,
    samplers: str | None,
    trials: int | None,
    seeds: int,
    name: str | None,
    out: Path | None,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Run each sampler in its own studies of the task, one a seed, and write who found a good setting how soon.

    The untouched model is measured once, the Fisher information computed once, and no setting is evaluated twice.
    Ctrl-C keeps every finished trial; the same command goes on. Several processes may run it together.
    """
    resolved, chosen = read_study_file(study_file, method)
    from ssdtune.study.compete import entries_of
    from ssdtune.study.storage import check_place, open_storage, quiet_optuna

    quiet_optuna()
    check_place(storage)
    name, trials = name or resolved.name, trials or resolved.search.trials
    page = out or Path(f"{name}-competition.html")
    if not chosen.method.knobs(chosen.options):
        what = f"method '{chosen.method.name}' has nothing to search"
        alone = next_line(storage, "study", "create", str(study_file), "--method", chosen.method.name, "--name", name)
        raise ConfigError(what, "method.name", f"choose another, or run it alone: {alone}")
    first = resolved.search.seed
    wanted = words_of(samplers) if samplers is not None else list(dict.fromkeys([chosen.method.sampler, *PLAIN]))
    check_writable(page)
    entries = entries_of(wanted, range(first, first + seeds))
    # imported once the study file is known to be good: these take seconds
    from ssdtune.cli.study_inputs import check_mapper, prepare, print_warnings
    from ssdtune.mri.task import settle
    from ssdtune.study.compete import best_known, run_competition, share_prior
    from ssdtune.study.create import measure_record
    from ssdtune.study.series import open_series
    from ssdtune.study.trials import count_trials

    search = resolved.search.model_copy(update={"trials": trials})
    resolved = resolved.model_copy(update={"search": search})
    check_mapper(search)
    resolved = settle(resolved, say)
    task = open_task(resolved, device)
    opened = open_storage(storage, create=True)
    studies = open_series(
        name,
        entries,
        opened,
        lambda: measure_record(task, study_file=resolved, track=track),
        resolved,
    )
    unlearner = prepare(task, chosen, resolved.fisher)
    if not any(count_trials(study).finished for study in studies.values()):
        print_warnings(unlearner.analysis)
    fixed = share_prior(studies, unlearner)
    if fixed is not None:
        click.echo(f"prior: {fixed.in_words()}", err=True)
    try:
        run_competition(studies, task, unlearner, trials, on_study=Report(studies, trials), track=track)
    except KeyboardInterrupt:
        click.echo("stopped: all finished trials are kept; the same command goes on", err=True)
        sys.exit(130)
    address = side_by_side([entry.study_name(name) for entry in entries if entry.seed == first], opened)
    known = best_known(opened, next(iter(studies.values())))
    _finish(name, studies, page, address, storage, known, as_json)


class Report:
    """One line on standard error for each study that is through: its best, and the time that the others still take."""

    def __init__(self, studies: Studies, trials: int) -> None:
        from ssdtune.study.trials import count_trials

        self.left = {entry: max(trials - count_trials(study).finished, 0) for entry, study in studies.items()}
        self.total, self.done, self.start = len(studies), 0, time.monotonic()
        self.ran = 0

    def __call__(self, entry: Entry, study: optuna.Study) -> None:
        from ssdtune.report.dashboard import attach
        from ssdtune.study.trials import best_of, scored_trials

        self.done += 1
        self.ran += self.left.pop(entry)
        best = best_of(scored_trials(study))
        attach(study)
        seconds = (time.monotonic() - self.start) / max(self.ran, 1) * sum(self.left.values())
        left = timedelta(seconds=round(seconds))
        found = "no trial"
        if best is not None:
            found = f"best {best.score.value:.4f} (trial {best.number})" + (
                "" if best.score.feasible else " infeasible"
            )
        line = f"{self.done}/{self.total}  {entry.sampler} seed {entry.seed}: {found}  {left} left"
        print(line, file=sys.stderr, flush=True)


def _finish(
    name: str, studies: Studies, page: Path, address: str, storage: str | None, known: float, as_json: bool
) -> None:
    """Write the page, print the table, and say where to look."""
    from ssdtune.report.competition import numbers_table, verdict
    from ssdtune.report.competition_studies import competition_of, write_competition
    from ssdtune.report.view import read_view
    from ssdtune.study.storage import shown

    views: dict[str, list[StudyView]] = {}
    for entry, study in studies.items():
        views.setdefault(entry.sampler, []).append(read_view(study))
    competition = competition_of(views, known)
    winner = _winner(views)
    apply = next_line(storage, "study", "apply", winner["study"], "--out", "unlearned.pt") if winner else ""
    page = write_competition(views, competition, name, page, [apply] if apply else [])
    if as_json:
        print_json(
            {
                "name": name,
                "storage": shown(storage),
                "page": str(page),
                "compare": address,
                "trials": competition.budget,
                "studies": {sampler: [view.name for view in each] for sampler, each in views.items()},
                "settings": {sampler: each[0].record.sampler for sampler, each in views.items()},
                "best": winner,
                "metrics": competition.metrics(),
            }
        )
        return
    table = numbers_table(competition)
    print_table(table.columns, table.rows)
    click.echo(verdict(competition))
    click.echo(f"page: {page}")
    click.echo(f"side by side: {address}, once this runs: {next_line(storage, 'dashboard')}")
    if apply:
        click.echo(f"next: {apply}")


def _winner(views: Mapping[str, list[StudyView]]) -> dict[str, Any] | None:
    """The best feasible trial of all studies; None if there is none."""
    found = [(view, view.best) for each in views.values() for view in each]
    feasible = [(view, best) for view, best in found if best is not None and best.score.feasible]
    if not feasible:
        return None
    view, best = max(feasible, key=lambda pair: pair[1].score.value)
    return {
        "study": view.name,
        "trial": best.number,
        **best.setting,
        "score": best.score.value,
    }
