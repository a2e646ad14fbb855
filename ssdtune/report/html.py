"""The report of a study as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from ssdtune.report.evaluation import audit_blocks
from ssdtune.report.history import history_figures
from ssdtune.report.page import Block, Image, Page, Plot, Section, Table, Text, Tile
from ssdtune.report.pictures import narrow_of
from ssdtune.report.ssd_plane import ssd_captions, ssd_columns, ssd_tiles
from ssdtune.report.statement import SETS, fact_rows, finding, judgement, next_commands, zero_in_words
from ssdtune.report.view import StudyView
from ssdtune.report.volumes import volume_table, volumes_of
from ssdtune.study.record import read_trial

_CAPTIONS = {
    "ssdtune-trajectory": "A dot or a cross is one trial: unlearn, reconstruct every scored slice, score.",
    "ssdtune-plane": "The goal is the upper left corner. The grey line joins the trials, scored in full, that no other "
    "beats in both.",
    "ssdtune-settings": "Every trial by what its knobs were set to, and how the search got to its best.",
}


def study_page(
    view: StudyView,
    *,
    spectrum: Mapping[str, go.Figure] | None = None,
    doubts: Sequence[str] = (),
    pictures: Mapping[str, Path] | None = None,
    missing: Sequence[str] = (),
) -> Page:
    """The whole report.

    spectrum : further figures by id. doubts : what makes them doubtful. pictures : PNG of each set, embedded.
    missing : why one of them is not there.
    """
    before_after = [Text(_measures_note(view)), *_in_two(measures_table(view)), *_by_volume(view)]
    sections = [Section("Before and after", before_after)]
    if view.audits:
        sections.append(
            Section("Evaluation", audit_blocks(view.audits, view.best.number if view.best is not None else None))
        )
    if pictures:
        label = "Slices of the {} set, before and after."
        shown = [
            Image(path, label.format(SETS.get(name, name)), small if (small := narrow_of(path)).exists() else None)
            for name, path in pictures.items()
        ]
        sections.append(Section("Reconstructions", shown))
    more = ssd_captions(view)
    if any(item.estimated for item in view.trials):
        more["ssdtune-trajectory"] = " A ring was stopped early: an estimate from the slices it had seen."
    plots = [
        Plot(name, chart, _CAPTIONS.get(name, "") + more.get(name, "")) for name, chart in history_figures(view).items()
    ]
    sections.append(Section("The search", plots))
    if spectrum:
        said = [Text(f"Read with care: {doubt}.") for doubt in doubts]
        sections.append(Section("Fisher information", [*said, *(Plot(name, each) for name, each in spectrum.items())]))
    sections.append(Section("All trials", [trials_table(view)]))
    sections.append(Section("Provenance", [*_provenance(view), *(Text(reason) for reason in missing)]))
    head: dict[str, Any] = {"tiles": tiles(view), "judgement": judgement(view), "commands": next_commands(view)}
    return Page("study report", view.name, finding(view), sections, **head)


def tiles(view: StudyView) -> list[Tile]:
    """The numbers of the best trial, large."""
    best = view.best
    if best is None:
        return []
    score = best.score
    return [
        Tile("score s", f"{score.value:.3f}", f"untouched {view.untouched.value:.3f}"),
        Tile("retained", f"{score.retained:.1%}", f"at least {view.record.rule.min_retained:.0%} asked"),
        Tile("remembered", f"{score.remembered:.1%}", zero_in_words(view.record)),
        *(Tile(knob.name, f"{best.setting[knob.name]:.4g}", knob.about) for knob in view.like_best.record.knobs),
        *ssd_tiles(best),
    ]


def measures_table(view: StudyView) -> Table:
    """Every measure of every scored set: original, best, the change, and the oracle where there is one.

    Below q stands its spread over volumes, where they are known.
    """
    measured = view.measure_table()
    labels = list(next(iter(measured.values()), {}))
    volumes = volumes_of(view)
    rows = []
    for name, values in measured.items():
        set_name, _, measure = name.partition("_")
        shown = [_measured(measure, value, "+" if label == "change" else "") for label, value in values.items()]
        rows.append([SETS.get(set_name, set_name), measure.replace("_", " "), *shown])
        if measure == view.record.quality and set_name in volumes:
            spread = volumes[set_name].spread()
            shown = [_measured("", spread[label]) if label in spread else "" for label in labels]
            rows.append([SETS.get(set_name, set_name), f"{measure}, sd over volumes", *shown])
    return Table(["set", "measure", *labels], rows, numeric=range(2, 2 + len(labels)))


def _in_two(table: Table) -> list[Block]:
    """The table without the measures of whole volumes, and those, folded."""
    whole = [row for row in table.rows if str(row[1]).startswith("volume")]
    rest = [row for row in table.rows if row not in whole]
    folded = Table(table.columns, whole, "Measures of whole volumes, means and standard deviations", table.numeric)
    return [Table(table.columns, rest, numeric=table.numeric), *([folded] if whole else [])]


def trials_table(view: StudyView) -> Table:
    """Every finished trial."""
    trials = view.trials
    columns = {
        "trial": [item.number for item in trials],
        **{knob.name: [item.setting.get(knob.name) for item in trials] for knob in view.record.knobs},
        "s": [item.score.value for item in trials],
        "retained": [item.score.retained for item in trials],
        "remembered": [item.score.remembered for item in trials],
        "feasible": [item.score.feasible for item in trials],
        **ssd_columns(trials),
        "remark": [_remark(read_trial(item.trial)) for item in trials],
    }
    return Table(list(columns), list(zip(*columns.values(), strict=True)), summary=f"{len(trials)} finished trials")


def _by_volume(view: StudyView) -> list[Block]:
    volumes = volumes_of(view)
    if not volumes:
        return []
    counts = ", ".join(f"{SETS.get(name, name)} {len(found.names)}" for name, found in volumes.items())
    note = f"By volume (q = {view.record.quality}; volumes: {counts}), those that changed the most first."
    return [Text(note), volume_table(volumes, SETS)]


def _measured(measure: str, value: float, sign: str = "") -> str:
    return f"{value:{sign}.{2 if measure.endswith('psnr') else 4}f}" if math.isfinite(value) else "not finite"


def _measures_note(view: StudyView) -> str:
    if view.best is None:
        return "Means over slices of the untouched model."
    label = f"Best is trial {view.best.number}" + ("" if view.best.score.feasible else ", which is not feasible")
    clean = any("_clean_" in name for name in view.record.baseline)
    of_clean = " Clean measures are taken against targets without the corruption." if clean else ""
    return f"Means over slices. {label}.{of_clean}"


def _provenance(view: StudyView) -> list[Block]:
    record = view.record
    blocks: list[Block] = [Table(["", "value"], fact_rows(view))]
    blocks.append(Table(["input", "content hash"], list(record.identity.items()), summary="Hashes of all inputs"))
    if record.study_file:
        rows = [
            [f"{section}.{key}" if isinstance(values, Mapping) else section, str(value)]
            for section, values in record.study_file.items()
            for key, value in (values.items() if isinstance(values, Mapping) else [("", values)])
        ]
        blocks.append(Table(["key", "value"], rows, summary="The study file, resolved"))
    return blocks


def _remark(measured: Mapping[str, object]) -> str:
    if broken := measured.get("non_finite"):
        names = broken if isinstance(broken, list) else [broken]
        return f"non-finite output on {', '.join(str(name) for name in names)}"
    if reason := measured.get("stopped"):
        return f"stopped early, {reason}: estimates from {measured.get('step')} slices"
    return f"as {source}" if (source := measured.get("reused_from")) else ""
