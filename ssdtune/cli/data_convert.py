"""``ssdtune data average`` and ``data convert``: files of M4Raw, ISMRMRD and BART as a study reads them."""

from __future__ import annotations

from pathlib import Path

import click

from ssdtune.cli.console import json_option, print_json, print_table, track


@click.command(short_help="Average repeated scans to targets, as for M4Raw.")
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make; must not hold anything.")
@click.option(
    "--by",
    type=click.Choice(["image", "kspace"]),
    default="image",
    show_default=True,
    help="Mean of magnitude images, as M4Raw's own targets, or of complex k-space where nothing moved.",
)
@click.option("--pattern", help="Names' pattern with a group 'repetition'.  [default: M4Raw's, 2022061003_T101.h5]")
@json_option
def average(source: str, out: Path, by: str, pattern: str | None, as_json: bool) -> None:
    """Make one file of the repetitions of each scan in SOURCE (a folder, a glob or a list).

    It holds the first repetition's k-space with the mean of all as target. Files whose names differ in the repetition
    alone belong together. NMSE is the first repetition's, against the mean.
    """
    from ssdtune.mri.kspace.average import PATTERN, average_folder

    done = average_folder(source, out, by=by, pattern=PATTERN if pattern is None else pattern, track=track)
    if as_json:
        rows = [
            {"file": each.path.name, "from": [file.name for file in each.sources], "nmse": each.nmse} for each in done
        ]
        print_json({"folder": str(out), "by": by, "files": rows})
        return
    table = [[each.path.name, len(each.sources), each.slices, each.nmse] for each in done]
    print_table(["file", "repetitions", "slices", "NMSE of the first"], table, f"mean by {by}")
    click.echo(f"wrote {len(done)} files in {out}")
