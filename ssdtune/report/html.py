"""The report of a study as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from ssdtune.report.history import history_figures
from ssdtune.report.page import Block, Command, Image, Page, Plot, Section, Table, Text, Tile
from ssdtune.report.statement import fact_rows, finding, next_commands
from ssdtune.report.view import StudyView
from ssdtune.samplers.recorded import recorded

_CAPTIONS = {
    "ssdtune-trajectory": "Each dot is one trial: dampen, reconstruct every scored slice, score.",
    "ssdtune-plane": "The goal is the upper left corner. The grey line joins trials that no other beats in both.",
    "ssdtune-prior": "Left: what the prior expected before any trial; beyond the dotted line the constraint likely "
    "fails. Right: what the trials measured.",
    "ssdtune-settings": "Above the dotted line lambda exceeds alpha, where a smaller alpha changes nothing.",
}
_SETS = {"retain": "retain", "forget": "forget (known)", "unknown": "forget (unknown)"}


def study_page(
    view: StudyView,
    *,
    spectrum: Mapping[str, go.Figure] | None = None,
    pictures: Mapping[str, Path] | None = None,
    missing: Sequence[str] = (),
) -> Page:
    """The whole report.

    spectrum : further figures by id. pictures : PNG of each set, embedded. missing : why one of them is not there.
    """
    sections = [
        Section("Before and after", [Text(_measures_note(view)), measures_table(view)]),
        Section("The search", [Plot(name, chart, _CAPTIONS[name]) for name, chart in history_figures(view).items()]),
    ]
    if pictures:
        shown = [
            Image(path, f"Slices of the {_SETS.get(name, name)} set, before and after.")
            for name, path in pictures.items()
        ]
        sections.insert(1, Section("Reconstructions", shown))
    if spectrum:
        plots: list[Block] = [Plot(name, chart) for name, chart in spectrum.items()]
        sections.append(Section("Fisher information", plots))
    sections.append(Section("All trials", [trials_table(view)]))
    sections.append(Section("Provenance", [*_provenance(view), *(Text(reason) for reason in missing)]))
    sections.append(Section("What to type next", [Command("\n".join(next_commands(view)))]))
    return Page("study report", view.name, finding(view), sections, tiles(view))


def tiles(view: StudyView) -> list[Tile]:
    """The numbers of the best trial, large."""
    best = view.best
    if best is None:
        return []
    score, measured = best.score, recorded(best.trial)
    shown = [
        Tile("score s", f"{score.value:.3f}", f"untouched {view.untouched.value:.3f}"),
        Tile("retained", f"{score.retained:.1%}", f"at least {view.facts.rule.min_retained:.0%} asked"),
        Tile("remembered", f"{score.remembered:.1%}", "0 % is as if never seen"),
        Tile("alpha", f"{best.setting.alpha:.4g}", "selection threshold"),
        Tile("lambda", f"{best.setting.lam:.4g}", "dampening constant"),
    ]
    if "rho" in measured:
        shown.append(Tile("selected", f"{measured['rho']:.2%}", "of all parameters"))
    return shown


def measures_table(view: StudyView) -> Table:
    """Every measure of every scored set: original, best, the change, and the oracle where there is one."""
    measured = view.measure_table()
    labels = list(next(iter(measured.values()), {}))
    rows = []
    for name, values in measured.items():
        set_name, _, measure = name.partition("_")
        shown = [_measured(measure, value, "+" if label == "change" else "") for label, value in values.items()]
        rows.append([_SETS.get(set_name, set_name), measure.replace("_", " "), *shown])
    return Table(["set", "measure", *labels], rows, numeric=range(2, 2 + len(labels)))


def trials_table(view: StudyView) -> Table:
    """Every finished trial."""
    columns = ["trial", "alpha", "lambda", "s", "retained", "remembered", "feasible", "selected", "kappa", "remark"]
    rows = [
        [
            item.number,
            item.setting.alpha,
            item.setting.lam,
            item.score.value,
            item.score.retained,
            item.score.remembered,
            item.score.feasible,
            recorded(item.trial).get("rho"),
            recorded(item.trial).get("kappa"),
            _remark(recorded(item.trial)),
        ]
        for item in view.trials
    ]
    return Table(columns, rows, summary=f"{len(rows)} finished trials")


def _measured(measure: str, value: float, sign: str = "") -> str:
    return f"{value:{sign}.{2 if measure.endswith('psnr') else 4}f}" if math.isfinite(value) else "not finite"


def _measures_note(view: StudyView) -> str:
    if view.best is None:
        return "Means over slices of the untouched model."
    label = f"Best is trial {view.best.number}" + ("" if view.best.score.feasible else ", which is not feasible")
    return f"Means over slices. {label}; clean measures are taken against targets without the corruption."


def _provenance(view: StudyView) -> list[Block]:
    facts = view.facts
    blocks: list[Block] = [Table(["", "value"], fact_rows(view))]
    blocks.append(Table(["input", "content hash"], list(facts.identity.items()), summary="Hashes of all inputs"))
    if facts.study_file:
        rows = [
            [f"{section}.{key}" if isinstance(values, Mapping) else section, str(value)]
            for section, values in facts.study_file.items()
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
    if source := measured.get("reused_from"):
        return f"as {source}"
    return ""
