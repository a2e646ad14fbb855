"""``ssdtune spectrum``: what the forget set's Fisher information says of a task before any trial."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ssdtune.cli.computing import open_ray, open_task, ray_option
from ssdtune.cli.console import file_option, json_option, print_json, print_table, study_file_argument, track
from ssdtune.cli.spectrum_parts import asked_of_parts, part_of, scans_here, write
from ssdtune.cli.storage import device_option
from ssdtune.cli.study_inputs import models_of, print_warnings, read_study_file, scans_of
from ssdtune.errors import ConfigError
from ssdtune.files import check_apart, check_writable
from ssdtune.mri.kspace.find import SUFFIXES

if TYPE_CHECKING:
    from ssdtune.fisher.result import FisherAnalysis
    from ssdtune.studyfile import StudyFile

GROUP_COLUMNS = (
    "group",
    *(f"{name} {what}" for name in ("forget", "retain") for what in ("share", "top share", "rank")),
)


@click.command(
    short_help="Fisher spectrum and features of the forget set.",
    epilog="Example: ssdtune spectrum mine.toml --groups block",
)
@study_file_argument
@file_option("--out", "FISHER.h5", "Also write the whole analysis, for FisherAnalysis.load.")
@file_option("--html", "PAGE.html", "The interactive page.  [default: NAME-spectrum.html]")
@file_option("--png", "PICTURE.png", "The same figures as a picture.  [default: NAME-spectrum.png]")
@click.option(
    "--groups",
    type=click.Choice(["block", "layer"]),
    help="Also the spectrum of every block (sensitivity net, cascades; or thirds of the depth) or layer alone.",
)
@click.option(
    "--spectral", is_flag=True, help="Also the damage planes of the spectral update; takes all gradients anew."
)
@click.option(
    "--part",
    metavar="K/N",
    callback=lambda context, parameter, value: part_of(value),
    help="Compute the K-th of N parts alone, into --out; 1/1 is all that a site has.",
)
@click.option(
    "--merge",
    "parts",
    multiple=True,
    metavar="PART.h5",
    type=click.Path(path_type=Path),
    help="Take the analysis from parts, one --merge each, without data. They are made as STUDY.toml says.",
)
@ray_option
@device_option
@json_option
def spectrum(
    study_file: Path,
    out: Path | None,
    html: Path | None,
    png: Path | None,
    groups: Literal["block", "layer"] | None,
    spectral: bool,
    part: tuple[int, int] | None,
    parts: tuple[Path, ...],
    address: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Compute the Fisher information of a study's forget and retain set, and show what it says.

    Prints the features with their 95 % intervals, and writes the spectra, ratios, depth profile and damage surfaces as
    an interactive page and as a picture. The analysis is kept in a cache: studies of the same task use it again.
    """
    study, _ = read_study_file(study_file, complete=part is None and not parts)  # of other sites there are no files
    from ssdtune.fisher.analysis import FisherWarning
    from ssdtune.fisher.cache import cached_analysis
    from ssdtune.fisher.crew import Alone
    from ssdtune.fisher.metric import spectral_metric
    from ssdtune.fisher.sites import merge_parts
    from ssdtune.report.page import write_page
    from ssdtune.report.spectrum import view_spectrum
    from ssdtune.report.spectrum_page import spectrum_page
    from ssdtune.report.spectrum_png import write_spectrum_png

    if part is not None:
        if parts or address or groups or spectral or html or png or out is None:
            raise ConfigError("a part is written to one file", "--part", "give it with --out alone")
        _check_apart([study_file, *_files_of(study)], {"--out": out})
        write(study, part, out, device, as_json)
        return
    if parts and (address or spectral):
        raise ConfigError("parts have no data to compute with", "--merge", "leave --ray and --spectral out")
    html, png = html or Path(f"{study.name}-spectrum.html"), png or Path(f"{study.name}-spectrum.png")
    check_writable(out, html, png)
    inputs = [*parts, *models_of(study), *scans_here(study)] if parts else _files_of(study)
    _check_apart([study_file, *inputs], {"--out": out, "--html": html, "--png": png})
    space = None
    with warnings.catch_warnings(), open_ray(address, device) as on_ray:
        warnings.simplefilter("ignore", FisherWarning)  # printed below, also when the analysis comes from the cache
        if parts:
            analysis = merge_parts(parts, study.fisher.denominator, groups, track, partial(asked_of_parts, study))
        else:
            task = open_task(study, device)
            crew = on_ray.crew if on_ray else Alone
            analysis = cached_analysis(task, study.fisher, track=track, groups=groups, crew=crew)
    if out is not None:
        analysis.save(out)
    if spectral:
        budget = study.fisher.memory_budget_gib * 2**30
        space = spectral_metric(task, memory_budget=budget, track=track)[1]
    view = view_spectrum(analysis)
    following = [f"ssdtune study create {shlex.quote(str(study_file))}", f"ssdtune study run {shlex.quote(study.name)}"]
    files = {
        "page": write_page(spectrum_page(analysis, view, study.name, space, following), html),
        "picture": write_spectrum_png(view, png, f"{study.name}: Fisher spectrum"),
    }
    if out is not None:
        files["analysis"] = out
    if as_json:
        print_json(spectrum_document(analysis) | {"files": {what: str(path) for what, path in files.items()}})
        return
    _print(study.name, analysis)
    for what, path in files.items():
        click.echo(f"{what}: {path}")


def _files_of(study: StudyFile) -> list[Path]:
    """What a study reads: its checkpoints and scans."""
    return [*models_of(study), *scans_of(study)]


def _check_apart(inputs: list[Path], outputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over what is read, and HDF5 beside scans: a set that is a folder or a glob would take it in."""
    check_apart(inputs, outputs)
    scans = {path.parent for path in inputs if path.suffix.lower() in SUFFIXES}
    check_apart(scans, {what: path for what, path in outputs.items() if path and path.suffix.lower() in SUFFIXES})


def spectrum_document(analysis: FisherAnalysis) -> dict[str, Any]:
    """Features, intervals and what they were made from, as JSON values."""
    from ssdtune.fisher.depth import stage_shares
    from ssdtune.fisher.features import FEATURE_VERSION
    from ssdtune.report.spectrum_page import alpha_range

    low, high = alpha_range(analysis)
    sets = {"forget": analysis.forget, "retain": analysis.retain}
    groups = {name: {group: part.groups[group].tolist() for group in part.groups} for name, part in sets.items()}
    return {
        "features": analysis.features(),
        "intervals": {name: list(ends) for name, ends in analysis.intervals.items()},
        "feature_version": FEATURE_VERSION,
        "depth": {name: stage_shares(analysis.layout, part.diagonal) for name, part in sets.items()},
        "group_eigenvalues": groups if analysis.forget.groups else None,
        "warnings": list(analysis.warnings),
        "alpha_range": {"rho 0.5": low, "rho 0.001": high},
        "definition": analysis.definition,
        "denominator": analysis.denominator,
        "samples": {"forget": len(analysis.forget.ids), "retain": len(analysis.retain.ids)},
        "parameters": analysis.layout.parameters,
        "identity": dict(analysis.identity),
    }


def group_rows(analysis: FisherAnalysis) -> list[list[object]]:
    """Of each group and either set: the group's share of the whole trace, top share and effective rank."""
    from ssdtune.fisher.statistics import above_rounding, effective_rank, top_share

    rows: list[list[object]] = []
    for group in analysis.forget.groups:
        rows.append([group])
        for part in (analysis.forget, analysis.retain):
            values = above_rounding(part.groups[group])
            share = values.sum() / part.spectrum.trace if part.spectrum.trace > 0 else 0.0
            rows[-1] += [float(share), top_share(values), effective_rank(values)]
    return rows


def _print(name: str, analysis: FisherAnalysis) -> None:
    from ssdtune.report.spectrum import PERCENT
    from ssdtune.report.spectrum_page import alpha_range, feature_rows

    forget, retain = len(analysis.forget.ids), len(analysis.retain.ids)
    print_table(
        ["feature", "value", "95 % interval"],
        feature_rows(analysis),
        title=f"{name}: {forget} forget and {retain} retain samples, {analysis.layout.parameters:,} parameters",
    )
    if analysis.forget.groups:
        print_table(GROUP_COLUMNS, group_rows(analysis), title="each group of parameters alone")
    low, high = alpha_range(analysis)
    click.echo(f"alpha between {low:.4g} and {high:.4g} selects {PERCENT} of them")
    print_warnings(analysis)
