"""``ssdtune prior``: the experience that the learned prior comes from."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ssdtune.cli.console import json_option, print_json, track


@click.group(short_help="Collect the experience that the learned prior comes from.")
def prior() -> None:
    """Collect the experience that the learned prior comes from."""


@prior.command()
@click.option("--out", required=True, metavar="FILE.h5", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--sites", default=50, show_default=True, type=click.IntRange(min=0), help="MRI sites, one oracle each.")
@click.option("--tasks", default=4, show_default=True, type=click.IntRange(1, 7), help="Corruptions at each site.")
@click.option("--vision", default=0, show_default=True, type=click.IntRange(min=0), help="Classification tasks.")
@click.option("--mnist", metavar="FILE.npz", type=click.Path(path_type=Path), help="MNIST, for classification tasks.")
@click.option("--cifar10", metavar="FILE.npz", type=click.Path(path_type=Path), help="CIFAR-10, likewise.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Draws the recipes.")
@click.option(
    "--workers", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(min=1), help="Processes."
)
@json_option
def collect(
    out: Path,
    sites: int,
    tasks: int,
    vision: int,
    mnist: Path | None,
    cifar10: Path | None,
    seed: int,
    workers: int,
    as_json: bool,
) -> None:
    """Simulate unlearning tasks, train a poisoned model and an oracle for each, and record its response to SSD.

    Tasks with nothing to forget are rejected and counted. Ctrl-C keeps every finished task in FILE.h5.parts; running
    the same command again goes on.
    """
    from ssdtune.prior.collect import collect as run
    from ssdtune.prior.recipes import collection

    images = {name: path for name, path in (("mnist", mnist), ("cifar10", cifar10)) if path is not None}
    valid, rejected = run(out, collection(sites, tasks, vision, seed), images=images, workers=workers, track=track)
    if as_json:
        print_json({"file": str(out), "valid": valid, "rejected": rejected})
    else:
        click.echo(f"{out}: {valid} valid tasks, {rejected} rejected (nothing to forget)")
