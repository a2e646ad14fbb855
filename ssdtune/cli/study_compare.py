"""``ssdtune study compare``: methods against each other on one task, at equal trials and at equal cost."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.computing import open_ray, open_task, ray_option
from ssdtune.cli.console import (
    FiniteRange,
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
from ssdtune.errors import ConfigError, TrialError
from ssdtune.files import check_writable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import optuna

    from ssdtune.cli.comparing import Place
    from ssdtune.report.comparison import Comparison, Run
    from ssdtune.study.compare import Budget, Rival
    from ssdtune.study.record import StudyRecord


@click.command(
    short_help="Methods against each other on one task, as a table and a page.",
    epilog="Example: ssdtune study compare mine.toml --methods spectral,ft,ssd --seeds 3",
)
@study_file_argument
@click.option(
    "--methods",
    required=True,
    metavar="A,B,...|all",
    help="Methods by name (ssdtune study methods lists them); NAME@SAMPLER searches one with another sampler than tpe.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Of each study.  [default: search.trials]")
@click.option(
    "--cost", type=FiniteRange(min=0, min_open=True), help="Of each study, in slice passes, instead of --trials."
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Studies of each method.")
@click.option(
    "--name", callback=check_name, help="Instead of the study file's name; studies are called NAME-METHOD-sSEED."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Methods run at the same time.")
@click.option(
    "--dry-run", is_flag=True, help="Measure one trial of each method, say what all would cost, keep nothing."
)
@file_option("--out", "PAGE.html", "The page.  [default: NAME-comparison.html]")
@ray_option
@storage_option
@device_option
@json_option
def compare(
    study_file: Path,
    methods: str,
    trials: int | None,
    cost: float | None,
    seeds: int,
    name: str | None,
    jobs: int,
    dry_run: bool,
    out: Path | None,
    address: str | None,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Search each method in its own studies of the task, one a seed, and say which came furthest.

    All have the same sampler and begin with the method's published settings. The untouched model is measured once, the
    Fisher information computed once. Ctrl-C keeps every finished trial; the same command goes on.
    """
    if trials is not None and cost is not None:
        raise ConfigError("two budgets", "--trials with --cost", "give one; both tables are shown for either")
    if address is not None and jobs > 1:
        raise ConfigError("a cluster measures several trials of one method at once", "--ray with --jobs", "give one")
    resolved, _ = read_study_file(study_file)
    from ssdtune.study.compare import SAMPLER, Budget, lacking, rivals_of
    from ssdtune.study.storage import check_place, open_storage, quiet_optuna, storage_url

    quiet_optuna()
    check_place(storage)
    name = name or resolved.name
    page = out or Path(f"{name}-comparison.html")
    check_writable(page)
    first = resolved.search.seed
    labels = words_of(methods)
    rivals = rivals_of(labels, range(first, first + seeds), resolved.method.model_dump())
    budget = Budget(None if cost else trials or resolved.search.trials, cost)
    # imported once the study file is known to be good: these take seconds
    from ssdtune.cli.comparing import Place, run_comparison
    from ssdtune.cli.study_inputs import check_mapper
    from ssdtune.device import keep_freed_memory
    from ssdtune.mri.task import settle
    from ssdtune.study.create import measure_record
    from ssdtune.study.series import open_series

    search = resolved.search.model_copy(update={"sampler": SAMPLER} | ({"trials": trials} if trials else {}))
    resolved = resolved.model_copy(update={"search": search})
    check_mapper(search)
    keep_freed_memory()
    resolved = settle(resolved, say)
    task = open_task(resolved, device)
    rivals = _served(rivals, lacking(rivals, task), task.name, everyone="all" in labels)

    def measure() -> StudyRecord:
        return measure_record(task, method=rivals[0].chosen.section(), study_file=resolved, track=track)

    with open_ray(address, device) as on_ray:
        place = Place(task, resolved, on_ray)
        if dry_run:
            _tell_costs(place.foresee(rivals, measure(), budget), jobs, as_json)
            return
        opened = open_storage(storage, create=True)
        studies = open_series(name, rivals, opened, measure, resolved)
        try:
            run_comparison(place, studies, budget, storage_url(storage), opened, jobs, device)
        except KeyboardInterrupt:
            click.echo("stopped: all finished trials are kept; the same command goes on", err=True)
            sys.exit(130)
    names = [rival.study_name(name) for rival in rivals if rival.seed == first]
    finish = Finish(name, studies, budget, side_by_side(names, opened), storage)
    finish(place, page, as_json)


def _served(rivals: Sequence[Rival], missing: Mapping[str, str], task: str, everyone: bool) -> list[Rival]:
    """Those that the task can serve; others are refused, or left out where all were asked for."""
    for label, what in missing.items():
        if not everyone:
            raise ConfigError(f"method '{label}' lacks {what}", task, "leave it out of --methods")
        click.echo(f"left out {label}: it lacks {what}", err=True)
    served = [rival for rival in rivals if rival.label not in missing]
    if not served:
        raise ConfigError("no method can serve the task", task, "see what each lacks above")
    return served


def _tell_costs(rows: list[dict[str, Any]], jobs: int, as_json: bool) -> None:
    """What the comparison will cost, from one measured trial of each method."""
    passes, seconds = (sum(row[what] for row in rows) for what in ("cost", "seconds"))
    if as_json:
        print_json({"cost": passes, "seconds": seconds / jobs, "methods": rows})
        return
    columns = ["method", "studies", "trials", "passes to prepare", "of a trial", "its seconds", "passes", "seconds"]
    print_table(columns, [list(row.values()) for row in rows])
    click.echo(
        f"about {passes:.0f} slice passes in {timedelta(seconds=round(seconds / jobs))}, from one trial of each method "
        "at the middle of its ranges; trials that are stopped early cost less. Nothing was written."
    )


@dataclass(frozen=True)
class Finish:
    """What a comparison ends with. ``address`` : of the dashboard's side-by-side view."""

    name: str
    studies: Mapping[Rival, optuna.Study]
    budget: Budget
    address: str
    storage: str | None

    def __call__(self, place: Place, page: Path, as_json: bool) -> None:
        """Write the page, print the table and what to type next.

        Raises
        ------
        TrialError : not every method got through.
        """
        from ssdtune.report.comparison import Comparison
        from ssdtune.report.comparison_page import write_comparison
        from ssdtune.report.dashboard import attach
        from ssdtune.study.storage import shown

        for study in self.studies.values():
            attach(study)
        failed, runs = self.failed(), self.runs()
        if runs:
            comparison = Comparison(runs, self.budget.trials, self.budget.cost)
            lines = self.lines(comparison)
            write_comparison(
                comparison,
                self.name,
                page,
                apply_lines=lines,
                failed=failed,
                task=place.task,
                params_of=place.best_params,
            )
            if as_json:
                found = {"name": self.name, "storage": shown(self.storage), "page": str(page), "compare": self.address}
                print_json({**found, **comparison.document(), "failed": failed})
            else:
                self.tell(comparison, page, lines)
        if failed:
            what = "; ".join(f"{label} ({why})" for label, why in failed.items())
            todo = "mend the cause and run again; the rest is kept"
            raise TrialError(f"not all methods got through: {what}", self.name, todo)

    def tell(self, comparison: Comparison, page: Path, lines: Mapping[str, str]) -> None:
        from ssdtune.report.comparison import comparison_table, verdict

        table = comparison_table(comparison)
        print_table(table.columns, table.rows)
        click.echo(verdict(comparison))
        click.echo(f"page: {page}")
        click.echo(f"side by side: {self.address}, once this runs: {next_line(self.storage, 'dashboard')}")
        for label, line in lines.items():
            click.echo(f"best of {label}: {line}")

    def lines(self, comparison: Comparison) -> dict[str, str]:
        """What to type for the best model of each method that has a feasible one, by label."""
        rows = {label: comparison.row(label) for label in comparison.order}
        return {
            label: next_line(
                self.storage, "study", "apply", row["study"], "--trial", str(row["trial"]), "--out", f"{label}.pt"
            )
            for label, row in rows.items()
            if row["feasible"]
        }

    def failed(self) -> dict[str, str]:
        """Why methods have not spent their budget, by label."""
        from ssdtune.study.compare import failure_of

        return {
            rival.label: failure_of(study) or "it could not be made ready"
            for rival, study in self.studies.items()
            if not self.budget.is_spent(rival, study)
        }

    def runs(self) -> dict[str, list[Run]]:
        """What there is of every method with a finished trial for each seed."""
        from ssdtune.report.comparison import read_run
        from ssdtune.report.view import read_view
        from ssdtune.study.compare import by_method

        found = {
            label: [read_run(read_view(study), study.user_attrs) for study in group.values()]
            for label, group in by_method(self.studies).items()
        }
        return {label: runs for label, runs in found.items() if all(run.view.trials for run in runs)}
