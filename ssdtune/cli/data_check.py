"""``ssdtune data check``: what HDF5 k-space files hold, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssdtune.cli.console import FILE, json_option, print_json, print_table, track
from ssdtune.errors import DataError

if TYPE_CHECKING:
    from ssdtune.mri.kspace.check import FileReport

MOST_GIB = 2
"""K-space that is read whole; of more a part of about this size."""

COLUMNS = ("file", "slices", "coils", "k-space", "target", "NaN", "missing", "mismatches", "fault")


@click.command(
    "check",
    short_help="Check HDF5 k-space files and print what they hold.",
    epilog="Example: ssdtune data check train --write-usable usable.txt",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--strict", is_flag=True, help="Take mismatches for faults too.")
@click.option("--write-usable", metavar="LIST.txt", type=FILE, help="Write the usable files, to name in a study.")
@click.option("--all", "every", is_flag=True, help=f"Read every slice also of more than {MOST_GIB} GiB.")
@json_option
def check(paths: tuple[str, ...], strict: bool, write_usable: Path | None, every: bool, as_json: bool) -> None:
    """Read every slice of the files under PATH (folders, globs, .txt lists of file names, files).

    Of very large folders the metadata of all files, and slices spread over all volumes and positions.

    A fault makes a file unusable. A mismatch is worth a look: a header that gives other sizes than the arrays have, or
    a target that is not the root sum of squares of its k-space (poisoned and averaged targets are not). With
    --write-usable faults do not fail the command; what is left out stands in LIST.txt as comments.
    """
    from ssdtune.mri.kspace.check import check_files
    from ssdtune.mri.kspace.find import find_files, labels

    files = list(dict.fromkeys(file for path in paths for file in find_files(path)))
    reports = check_files(files, most=None if every or write_usable else MOST_GIB * 2**30, track=track)
    if as_json:
        print_json([_as_json(report) for report in reports])
    else:
        print_table(COLUMNS, [_row(name, report) for name, report in zip(labels(files), reports, strict=True)])
        total = sum(report.slices for report in reports)
        faulty = sum(not report.usable for report in reports)
        odd = sum(bool(report.mismatches) for report in reports)
        read = sum(sum(map(bool, report.kspace_ids)) for report in reports)
        part = "" if every or read == total or faulty else f" (of {read} the content was read, of all with --all)"
        count = f"{len(reports)} file{'s' * (len(reports) != 1)}, {total} slices{part}"
        click.echo(f"{count}: {faulty} with faults, {odd} with mismatches")
        for twice in _twice(reports):
            click.echo(f"warning: {twice}", err=True)
    if write_usable is not None:
        _write_list(write_usable, reports)
        return
    for report in reports:
        report.raise_first_fault()
        if strict and report.mismatches:
            raise DataError(report.mismatches[0], report.path, "mend the file, or leave out --strict")


def _twice(reports: Sequence[FileReport]) -> Iterator[str]:
    """A line for each pair of files with the same k-space in a slice."""
    first: dict[str, Path] = {}
    told = set()
    for report in reports:
        for content in filter(None, report.kspace_ids):  # those that were read
            other = first.setdefault(content, report.path)
            if other != report.path and (other, report.path) not in told:
                told.add((other, report.path))
                yield f"{report.path} holds k-space of {other} once more"


def _write_list(path: Path, reports: Sequence[FileReport]) -> None:
    """The usable files, relative to the list; raises DataError if there is none or the list cannot be written."""
    from ssdtune.files import atomic_path
    from ssdtune.mri.kspace.find import as_line

    usable = [report for report in reports if report.usable]
    if not usable:
        reports[0].raise_first_fault()
    folder = path.absolute().parent
    lines = [as_line(os.path.relpath(report.path.absolute(), folder)) for report in usable]
    left_out = [f"# left out: {report.path} ({report.faults[0][0]})" for report in reports if not report.usable]
    left_out = [" ".join(line.splitlines()) for line in left_out]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, *left_out]) + "\n", "utf-8")


def _row(name: str, report: FileReport) -> tuple[object, ...]:
    return (
        name,
        report.slices,
        report.coils,
        _size(report.kspace_size),
        _size(report.target_size),
        report.nan if report.kspace_ids else None,
        ", ".join(report.missing),
        "; ".join(report.mismatches),
        "; ".join(what for what, _ in report.faults),
    )


def _as_json(report: FileReport) -> dict[str, Any]:
    hashes = {"kspace_ids", "target_ids", "clean_ids", "attributes_id"}
    plain = report.model_dump(mode="json", exclude=hashes | {"faults"})
    return {**plain, "faults": [what for what, _ in report.faults], "usable": report.usable}


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""
