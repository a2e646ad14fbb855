"""``ssdtune data average`` and ``data convert``: files of M4Raw, ISMRMRD and BART as a study reads them."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ssdtune.cli.console import json_option, print_json, print_table, track


@click.command(
    short_help="Average repeated scans to targets, as for M4Raw.",
    epilog="Example: ssdtune data average m4raw --out averaged",
)
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make; must not hold anything.")
@click.option(
    "--by",
    type=click.Choice(["image", "kspace"]),
    default="image",
    show_default=True,
    help="Mean of magnitude images, as M4Raw's own targets, or of complex k-space where nothing moved.",
)
@click.option(
    "--pattern",
    help="Regular expression of file names, with a group 'repetition'.  [default: M4Raw's, 2022061003_T101.h5]",
)
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


@click.command(
    short_help="Convert ISMRMRD HDF5 and BART's cfl/hdr.",
    epilog="Example: ssdtune data convert scan.h5 --out converted",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the new files.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@json_option
def convert(paths: tuple[str, ...], out: Path, overwrite: bool, as_json: bool) -> None:
    """Make files in fastMRI's layout of ISMRMRD files and BART arrays (.cfl and .hdr), one NAME.h5 each.

    Fully sampled Cartesian 2-D scans of one contrast; anything else is refused. The root sum of squares of the coil
    images is the target. Readout oversampling is removed as ISMRMRD's header says; BART's tells none.
    """
    from ssdtune.mri.kspace.convert import convert_files

    files = convert_files(paths, out, overwrite=overwrite, track=track)
    if as_json:
        print_json({"folder": str(out), "files": [file.name for file in files]})
    else:
        click.echo(f"wrote {len(files)} files in {out}; see: ssdtune data check {shlex.quote(str(out))}")
