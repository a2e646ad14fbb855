"""A comparison of methods as one self-contained page, below 2 MB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssdtune.report.comparison import Comparison, comparison_table, judgement, verdict
from ssdtune.report.comparison_figures import write_figures
from ssdtune.report.page import Block, Image, Page, Pair, Section, Table, Text, Tile, write_page
from ssdtune.report.panels import SlicePicture, draw_side_by_side
from ssdtune.report.pictures import has_images, narrow_of, slice_pictures
from ssdtune.report.statement import SETS, fact_rows, method_in_words, zero_in_words
from ssdtune.report.view import StudyView
from ssdtune.study.record import read_trial
from ssdtune.task import Task
from ssdtune.unlearning.method import Params

ParamsOf = Callable[[StudyView], Params]
"""Parameters of a study's best trial."""

_CAPTIONS = {
    "curves": "Best feasible s so far, mean over seeds with a 95 % bootstrap band, by trials and by slice passes (a "
    "forward counts 1, with its backward 3) of analysis, training and evaluation; the upright line is the equal cost. "
    "Dotted: the untouched model, dashed: the oracle.",
    "front": "Upper left is the goal; the dotted line is min_retained. Trials stopped early stand at their estimates.",
    "radar": "The best trial of each method. Quality and speed, each over the largest: the oracle's outline, not "
    "the rim, is the aim. Closeness: 1 is as the oracle, 0 as far from it as the untouched model.",
    "ranks": "Mean ranks of the best s {what}, over {blocks} seeds. {test}: {statistic:.3g}, p = {p_value:.2g}. Bars "
    "join methods closer than the Nemenyi critical difference at {level:g} (Demsar, JMLR 2006). Seeds are of the "
    "search: what another trained model would change is not in it.",
}


def write_comparison(
    comparison: Comparison,
    title: str,
    path: Path | str,
    *,
    apply_lines: Mapping[str, str],
    failed: Mapping[str, str],
    task: Task | None = None,
    params_of: ParamsOf | None = None,
) -> Path:
    """Write the page.

    apply_lines : what to type for each method's best model. failed : what methods failed of. task, params_of : for
    pictures before and after.

    Raises
    ------
    DataError : ``path`` cannot be written.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        figures = write_figures(comparison, folder)
        pictures: dict[str, Path] = {}
        if task is not None and params_of is not None and has_images(task):
            pictures = write_side_by_side(comparison, task, params_of, folder)
        page = _page(comparison, title, figures, pictures, apply_lines, failed)
        return write_page(page, path)


def write_side_by_side(comparison: Comparison, task: Task, params_of: ParamsOf, folder: Path) -> dict[str, Path]:
    """One slice of each scored set by the best model of every method, a picture a set, and one for narrow screens."""
    shown: dict[str, dict[str, SlicePicture]] = {name: {} for name in task.scored_sets}
    for label in comparison.order:
        view = comparison.best_of[label].view
        if view.best is not None:
            params = params_of(view)
            for name, pictures in shown.items():
                pictures[label] = slice_pictures(task, params, name, 1)[0]
    paths = {name: folder / f"{name}.webp" for name, each in shown.items() if each}
    for name, path in paths.items():
        title = f"{SETS.get(name, name)}: {next(iter(shown[name].values())).sample_id}"
        draw_side_by_side(shown[name], path, title)
        draw_side_by_side(shown[name], narrow_of(path), title, across=2)
    return paths


def trials_table(comparison: Comparison) -> Table:
    """What became of each method's trials."""
    names = ["trials", "feasible", "infeasible", "diverged", "stopped early", "not evaluated again", "failed"]
    rows = []
    for label in comparison.order:
        count: Counter[str] = Counter()
        for run in comparison.runs[label]:
            count["failed"] += run.view.counts.failed
            for item in run.view.trials:
                values = read_trial(item.trial)
                broken = bool(values.get("non_finite"))
                count.update({"trials": 1, "diverged": broken, "stopped early": "stopped" in values})
                count["feasible" if item.score.feasible else "infeasible"] += not broken
                count["not evaluated again"] += "reused_from" in values
        rows.append([label, *(count[name] for name in names)])
    return Table(["method", *names], rows)


def settings_table(comparison: Comparison) -> Table:
    """Each method with its options, what is searched, by which sampler, and its best setting."""
    rows = []
    for label in comparison.order:
        view = comparison.best_of[label].view
        facts, record = dict(fact_rows(view)), view.record
        best = view.best.setting_in_words() if view.best else ""
        rows.append([label, method_in_words(record.method, record.knobs), facts["searched"], record.sampler, best])
    return Table(["method", "with", "searched", "sampler", "best setting"], rows)


def _page(
    comparison: Comparison,
    title: str,
    figures: Mapping[str, Path],
    pictures: Mapping[str, Path],
    apply_lines: Mapping[str, str],
    failed: Mapping[str, str],
) -> Page:
    note = (
        f"s is the mean over seeds (with its range), at {comparison.trials} trials and at {comparison.cost:.0f} slice "
        "passes; retained, remembered, the mean distance of qualities to the oracle's and the setting are of the best."
    )
    ranks: list[Block] = [
        Image(figures[f"ranks_{what}"], _rank_caption(comparison, what))
        for what in ("trials", "cost")
        if f"ranks_{what}" in figures
    ] or [Text("Ranks need at least two methods, and two seeds of each: --seeds 3 or more.")]
    failures: list[Block] = [Text(f"{label} did not get through: {why}.") for label, why in failed.items()]
    sections = [
        Section("Methods", [Text(note), comparison_table(comparison)]),
        Section("How soon", [_pair(figures, "curves")]),
        Section("Retained and remembered", [Image(figures["front"], _CAPTIONS["front"])]),
        Section("Radar", [_pair(figures, "radar")]),
        Section("Ranks", ranks),
    ]
    if pictures:
        label = "One slice of the {} set before and after, by the best model of each method, and its error maps."
        shown = [Image(path, label.format(SETS.get(name, name)), narrow_of(path)) for name, path in pictures.items()]
        sections.append(Section("Side by side", shown))
    sections.append(Section("Trials and failures", [trials_table(comparison), *failures]))
    sections.append(Section("Settings", [settings_table(comparison)]))
    facts = fact_rows(comparison.everything[0].view)
    common = [row for row in facts if row[0] not in ("method", "searched", "sampler", "prior", "trials", "made")]
    sections.append(Section("Provenance", [Table(["", "value"], common)]))
    more: dict[str, Any] = {"judgement": judgement(comparison), "commands": [*apply_lines.values()]}
    return Page("comparison of methods", title, verdict(comparison), sections, _tiles(comparison), **more)


def _pair(figures: Mapping[str, Path], name: str) -> Pair:
    """Both figures of a kind, told apart by their titles."""
    shown = [path for key, path in figures.items() if key.startswith(name)]
    return Pair([Image(path, _CAPTIONS[name]) for path in shown], _CAPTIONS[name])


def _tiles(comparison: Comparison) -> list[Tile]:
    first = comparison.order[0]
    row = comparison.row(first)
    return [
        Tile("best method", first, f"at {comparison.trials} trials"),
        Tile("score s", f"{row['s']:.3f}", f"untouched {comparison.everything[0].view.untouched.value:.3f}"),
        Tile("retained", f"{row['retained']:.1%}", "of its best trial"),
        Tile("remembered", f"{row['remembered']:.1%}", zero_in_words(comparison.everything[0].view.record)),
        Tile("cost", f"{row['cost']:.0f}", "slice passes a study"),
    ]


def _rank_caption(comparison: Comparison, what: str) -> str:
    best = comparison.at_equal_trials() if what == "trials" else comparison.at_equal_cost()
    test = comparison.ranks(best)
    assert test is not None
    words = f"at {comparison.trials} trials" if what == "trials" else f"within {comparison.cost:.0f} slice passes"
    return _CAPTIONS["ranks"].format(what=words, **vars(test))
