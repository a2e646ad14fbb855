"""``ssdtune prior``: collect experience, fit the mapper to it, and see how good it is."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdtune.cli.computing import open_ray, ray_option
from ssdtune.cli.console import file_option, json_option, print_json, print_table, track, words_of
from ssdtune.errors import check_known
from ssdtune.files import check_writable

if TYPE_CHECKING:
    from ssdtune.prior.experience import Experience


class Sites(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click alone
    """Numbers of sites: how many of the first, or a list of numbers and ranges."""

    name = "N|A-B,C,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int] | object:
        if not isinstance(value, str):
            return value
        if re.fullmatch(r"\d+", value):
            return list(range(int(value)))
        parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in words_of(value)]
        found = [list(range(int(part[1]), int(part[2] or part[1]) + 1)) for part in parts if part]
        if len(found) < max(len(parts), 1) or not all(found):
            self.fail(f"'{value}' is neither a number nor a list such as 0-5,10", param, ctx)
        return sorted({number for each in found for number in each})


@click.group(
    short_help="Collect experience, fit the learned prior, and evaluate it.", epilog="Example: ssdtune prior show"
)
def prior() -> None:
    """Collect experience, fit the learned prior to it, and evaluate it."""


collection_option = file_option("--collection", "FILE.h5", "Recorded tasks.  [default: those of the repository]")
storage_option = click.option(
    "--storage", "storages", multiple=True, metavar="URL", help="Learn from the finished studies of this storage too."
)
html_option = file_option("--html", "PAGE.html", "Also plot calibration and regret, as a page.")
seed_option = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of what is drawn."
)


@prior.command(
    short_help="Simulate tasks, and record how they respond to methods.",
    epilog="Example: ssdtune prior collect --out tasks.h5 --sites 10",
)
@file_option("--out", "FILE.h5", "The collection.", required=True)
@click.option(
    "--sites",
    default="50",
    show_default=True,
    type=Sites(),
    help="MRI sites, one oracle each: how many, or which, such as 0-5,10.",
)
@click.option("--tasks", default=4, show_default=True, type=click.IntRange(1, 7), help="Corruptions at each site.")
@click.option("--vision", default=0, show_default=True, type=click.IntRange(min=0), help="Classification tasks.")
@click.option(
    "--methods",
    default="spectral,ssd-repair,ng,ft",
    show_default=True,
    metavar="M,M,...",
    help="Methods whose response is recorded beside SSD's; 'ssd' for no other.",
)
@click.option("--mnist", metavar="FILE.npz", type=click.Path(path_type=Path), help="MNIST, for classification tasks.")
@click.option("--cifar10", metavar="FILE.npz", type=click.Path(path_type=Path), help="CIFAR-10, likewise.")
@seed_option
@click.option(
    "--workers", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(min=1), help="Processes."
)
@ray_option
@json_option
def collect(
    out: Path,
    sites: list[int],
    tasks: int,
    vision: int,
    methods: str,
    mnist: Path | None,
    cifar10: Path | None,
    seed: int,
    workers: int,
    address: str | None,
    as_json: bool,
) -> None:
    """Simulate unlearning tasks, train a poisoned model and an oracle for each, and record its responses to methods.

    Tasks with nothing to forget are rejected and counted. Ctrl-C keeps every finished task in FILE.h5.parts; running
    the same command again goes on.
    """
    from ssdtune.learning.collect import collect as run
    from ssdtune.learning.recipes import collection
    from ssdtune.learning.responses import SETTINGS

    named = words_of(methods)
    for name in named or [methods]:
        check_known("method", name, [*SETTINGS, "ssd"], "--methods")
    beside = [name for name in named if name != "ssd"]
    check_writable(out)
    images = {name: path for name, path in (("mnist", mnist), ("cifar10", cifar10)) if path is not None}
    recipes = collection(sites, tasks, vision, seed)
    with open_ray(address, "cpu") as on_ray:
        gather = on_ray.gather if on_ray else None
        valid, rejected = run(out, recipes, images=images, methods=beside, workers=workers, gather=gather, track=track)
    if as_json:
        print_json({"file": str(out), "valid": valid, "rejected": rejected})
    else:
        click.echo(f"{out}: {valid} valid tasks, {rejected} rejected (nothing to forget)")


@prior.command(
    short_help="Fit the mapper to recorded tasks and finished studies.",
    epilog="Example: ssdtune prior fit --out mapper.npz --storage sqlite:///ssdtune.db",
)
@file_option("--out", "FILE.npz", "The mapper.", required=True)
@collection_option
@storage_option
@seed_option
@json_option
def fit(out: Path, collection: Path | None, storages: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Fit the mapper to recorded tasks and to the finished studies of any storage.

    A study file uses it with `mapper = "FILE.npz"` in its [search] section.
    """
    from ssdtune.device import set_threads
    from ssdtune.learning.fit import fit as run
    from ssdtune.learning.fit_methods import fit_methods
    from ssdtune.prior.experience import BUNDLED, collection_hash

    check_writable(out)
    set_threads(1)  # its networks are too small to be shared out
    experiences = _experiences(collection, storages)
    mapper = run(experiences, seed=seed, track=track)
    learned = {"collection": collection_hash(collection or BUNDLED), **mapper.experience}
    mapper = replace(mapper, experience=learned, methods=fit_methods(experiences, seed=seed, track=track))
    mapper.save(out)
    if as_json:
        print_json({"file": str(out)} | mapper.summary())
    else:
        studies = sum(record.recipe["kind"] == "study" for record in experiences)
        click.echo(f"{out}: mapper {mapper.version} of {len(experiences)} tasks, {studies} of them studies")


@prior.command(
    short_help="What a mapper was fitted to, and how good it is.",
    epilog="Example: ssdtune prior show --html prior.html",
)
@file_option("--mapper", "FILE.npz", "Instead of the one that ships with ssdtune.")
@html_option
@json_option
def show(mapper: Path | None, html: Path | None, as_json: bool) -> None:
    """Show what a mapper was fitted to, and how it did on families it had not seen when it was fitted."""
    from ssdtune.prior.calibration import LEVELS
    from ssdtune.prior.mapper import SpectrumMapper
    from ssdtune.report.page import write_page
    from ssdtune.report.prior_page import prior_page

    found = SpectrumMapper.load(mapper)
    summary, held_out = found.summary(), found.held_out
    if html is not None:
        write_page(prior_page(held_out, f"mapper {found.version}"), html)
    if as_json:
        print_json(summary | {"held_out": held_out.summary()})
        return
    facts = [(name, "none" if value in ("", [], {}, None) else value) for name, value in summary.items()]
    print_table(("mapper", ""), facts)
    residual = zip(LEVELS, *found.calibration.residual_sd, strict=True)
    print_table(("predicted", "sd of retained", "sd of remembered"), [tuple(map(float, row)) for row in residual])
    print_table(("held out by family", "value"), list(held_out.summary().items()))
    if html is not None:
        click.echo(f"page: {html}")


@prior.command(
    short_help="Predict families that were held out, and compare.",
    epilog="Example: ssdtune prior evaluate --collection tasks.h5",
)
@collection_option
@storage_option
@html_option
@seed_option
@json_option
def evaluate(collection: Path | None, storages: tuple[str, ...], html: Path | None, seed: int, as_json: bool) -> None:
    """Hold out every family in turn, and compare what a mapper of the others predicts with what was recorded.

    Prints log-likelihood, errors, coverage of the stated intervals, and the regret of the first trial.
    """
    from ssdtune.device import set_threads
    from ssdtune.learning.fit import hold_out
    from ssdtune.prior.assess import SETTINGS
    from ssdtune.report.page import write_page
    from ssdtune.report.prior_page import family_rows, prior_page

    check_writable(html)
    set_threads(1)  # as fit
    found = hold_out(_experiences(collection, storages), seed=seed, track=track)
    if html is not None:
        write_page(prior_page(found, str(collection or "bundled collection")), html)
    if as_json:
        print_json(found.summary())
        return
    print_table(("held out by family", "value"), list(found.summary().items()))
    print_table(("family", "tasks", *SETTINGS), family_rows(found), title="regret of the first trial, mean")
    if html is not None:
        click.echo(f"page: {html}")


def _experiences(collection: Path | None, storages: tuple[str, ...]) -> list[Experience]:
    from ssdtune.errors import DataError
    from ssdtune.prior.experience import BUNDLED, BUNDLED_SHA256, Experience, load_collection

    if collection is None and not BUNDLED.exists():
        what = f"this installation has no collection (SHA-256 {BUNDLED_SHA256})"
        raise DataError(
            what, BUNDLED.name, "take it from the repository of this release, and name it with --collection"
        )
    records = load_collection(BUNDLED if collection is None else collection)
    found = [record for record in records if isinstance(record, Experience)]
    for url in storages:
        from ssdtune.study.experience import study_experiences
        from ssdtune.study.storage import open_storage

        found += study_experiences(open_storage(url))
    return found
