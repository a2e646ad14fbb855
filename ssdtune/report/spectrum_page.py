"""The page of ``ssdtune spectrum``: figures, features with their intervals, and what the analysis was made from."""

from __future__ import annotations

from collections.abc import Sequence

from ssdtune.fisher.bootstrap import Interval
from ssdtune.fisher.features import FEATURE_VERSION, FEATURES
from ssdtune.fisher.response import SampleSpace
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.report.page import Block, Page, Plot, Section, Table, Text, Tile
from ssdtune.report.spectral_plane import SPECTRAL_TEXT, spectral_figure
from ssdtune.report.spectrum import PERCENT, SELECTING, SpectrumView, spectrum_figures

_SECTIONS = {
    "spectrum-eigenvalues": (
        "Spectra",
        "Eigenvalues of either set's Fisher information, exact from per-sample gradients. A steep fall means that few "
        "directions of the parameters carry what the set has taught the model.",
    ),
    "spectrum-ratios": (
        "Ratios",
        "SSD dampens the parameters to the right of alpha, those that matter more to the forget set than to the "
        "denominator's set.",
    ),
    "spectrum-depth": ("Depth", "Where in the network either set's Fisher information lies."),
    "spectrum-damage": (
        "Damage",
        "Loss increase that the Fisher information alone predicts, off-diagonal terms included. Wanted is a point that "
        "is bright for the forget set and dark for the retain set.",
    ),
}


def spectrum_page(
    analysis: FisherAnalysis,
    view: SpectrumView,
    name: str,
    space: SampleSpace | None = None,
    commands: Sequence[str] = (),
) -> Page:
    """The page of one analysis; ``name`` is the study's. space : shows planes of the spectral update too. commands :
    what to do next."""
    figures = spectrum_figures(view)
    sections = []
    if analysis.warnings:
        sections.append(Section("Warnings", [Text(f"{complaint}.") for complaint in analysis.warnings]))
    for figure_id, (heading, text) in _SECTIONS.items():
        sections.append(Section(heading, [Text(text), Plot(figure_id, figures[figure_id])]))
    if space is not None:
        plot = Plot("spectrum-spectral", spectral_figure(space))
        sections.append(Section("Damage of the spectral update", [Text(SPECTRAL_TEXT), plot]))
    sections.append(Section("Features", _features(analysis)))
    sections.append(Section("Made from", [Table(["", "value"], fact_rows(analysis))]))
    low, high = alpha_range(analysis)
    values = analysis.features()
    return Page(
        kind="Fisher spectrum",
        title=name,
        lead=f"An alpha between {low:.3g} and {high:.3g} selects {PERCENT} of the "
        f"{analysis.layout.parameters:,} parameters.",
        judgement=judgement(analysis),
        commands=commands,
        sections=sections,
        tiles=[
            Tile("forget samples", f"{len(analysis.forget.ids):,}", f"{100 * analysis.phi:.3g} % of the training set"),
            Tile("retain samples", f"{len(analysis.retain.ids):,}"),
            Tile("effective rank, forget", f"{values['forget_effective_rank']:.3g}"),
            Tile("subspace overlap", f"{values['subspace_overlap']:.2f}", "1: the same leading directions"),
        ],
    )


def judgement(analysis: FisherAnalysis) -> list[str]:
    """How far the two sets can be told apart, and whether their spectra are settled."""
    overlap = analysis.features()["subspace_overlap"]
    shared = "most" if overlap > 0.75 else "half" if overlap > 0.25 else "little"
    words = f"The two sets share {shared} of their leading directions (overlap {overlap:.2f})."
    doubts = len(analysis.warnings)
    doubtful = f"Read with care, for {doubts} reason{'s' if doubts > 1 else ''} given below."
    return [words, doubtful if doubts else "Both spectra are settled."]


def feature_rows(analysis: FisherAnalysis) -> list[list[object]]:
    """(name, value, interval as text) of every feature."""
    rows: list[list[object]] = []
    for name, value in analysis.features().items():
        interval = analysis.intervals.get(name)
        rows.append([name, value, interval_in_words(value, interval) if interval else None])
    return rows


def interval_in_words(value: float, interval: Interval) -> str:
    """The ends; in words where the value is none of its resamples, which then bound it on one side only.

    A resample has fewer distinct samples: what still grows with their number lies outside of all of them.
    """
    if interval.low <= value * (1 + 1e-9) and value * (1 - 1e-9) <= interval.high:
        return f"{interval.low:.4g} … {interval.high:.4g}"
    return f"not settled: {'above' if value > interval.high else 'below'} all resamples"


def alpha_range(analysis: FisherAnalysis) -> tuple[float, float]:
    """The alpha that select 50 % and 0.1 % of the parameters."""
    low, high = (analysis.alpha_at(share) for share in reversed(SELECTING))
    return low, high


def fact_rows(analysis: FisherAnalysis) -> list[list[object]]:
    """What the analysis was made from, and how."""
    per = "sample" if analysis.definition == "per-sample" else f"mini-batch of {analysis.batch_size}"
    versions = analysis.record.get("versions", {})
    rows: list[list[object]] = [
        ["Fisher information", f"squared gradient of each {per}"],
        ["denominator of r", f"{analysis.denominator} set"],
        ["in the Gram matrix", f"{len(analysis.forget.kept)} forget, {len(analysis.retain.kept)} retain"],
        ["feature version", FEATURE_VERSION],
    ]
    rows += [[what, digest] for what, digest in analysis.identity.items()]
    rows += [[f"version of {package}", version] for package, version in versions.items()]
    return rows


def _features(analysis: FisherAnalysis) -> list[Block]:
    text = "Intervals are over samples (percentile bootstrap). Every feature is described in docs/features.md."
    rows = [[*row, FEATURES[str(row[0])].formula] for row in feature_rows(analysis) if row[0] in FEATURES]
    return [Text(text), Table(["feature", "value", "95 % interval", "formula"], rows, numeric=(1, 2))]
