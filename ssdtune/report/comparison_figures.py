"""Figures of a comparison of methods: curves, front, radar, ranks; SVG of one panel each, so that a phone shows them.

Radar axes: UA, BTA and KTA are the quality of forget, retain and unknown forget slices (Xue et al., 2024), as PSNR
where it is measured, over the largest drawn; 1/RTE is one over the seconds of unlearning, over the largest. Closeness
of a measure m is 1 - min(1, |m - m_oracle| / max(|m_untouched - m_oracle|, m_oracle / 100)): 1 as the oracle, 0 as far
off as the untouched model, or as a hundredth of the oracle's where that is no further: less is no distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdtune.files import atomic_path
from ssdtune.report.comparison import PARTS, Comparison, Run
from ssdtune.report.history import pareto_front
from ssdtune.report.ranking import RankTest
from ssdtune.report.regret import Band, mean_band
from ssdtune.report.style import GREY, INK, QUIET, RED, SERIES, few_numbers, matplotlib_settings
from ssdtune.study.record import as_number, read_trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {"retain": "BTA", "forget": "UA", "unknown": "KTA"}
_DASHES, _MARKERS = ("-", "--", ":", "-."), "osD^vP*X"
LEAST = 0.01  # of the oracle's value
_POINTS = 160  # of a curve over cost


def write_figures(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write ``{figure}.svg`` for all figures that there is something to show of, by name.

    Raises
    ------
    DataError : ``folder`` cannot be written.
    """
    import matplotlib

    draw: dict[str, Callable[[], Figure]] = {
        "curves_trials": lambda: _curves_over_trials(comparison),
        "curves_cost": lambda: _curves_over_cost(comparison),
        "front": lambda: _front(comparison),
    }
    for name, panel in _radars(comparison).items():
        draw[name] = lambda panel=panel: _radar(comparison, *panel)  # type: ignore[misc]
    for name, best in (("trials", comparison.at_equal_trials()), ("cost", comparison.at_equal_cost())):
        if (test := comparison.ranks(best)) is not None:
            draw[f"ranks_{name}"] = lambda test=test: _ranks(test, comparison)  # type: ignore[misc]
    paths = {}
    settings = {**matplotlib_settings(), "svg.fonttype": "none", "svg.hashsalt": "ssdtune"}
    with matplotlib.rc_context(settings):
        for name, make in draw.items():
            with atomic_path(folder / f"{name}.svg") as temporary:
                make().savefig(temporary, format="svg", metadata={"Date": None}, bbox_inches="tight")
            paths[name] = folder / f"{name}.svg"
    return paths


def look_of(comparison: Comparison, label: str) -> dict[str, Any]:
    """Colour and dashes of a method, the same in every figure."""
    place = list(comparison.runs).index(label)
    return {"color": SERIES[place % len(SERIES)], "ls": _DASHES[place // len(SERIES) % len(_DASHES)]}


def curves_over_trials(comparison: Comparison, label: str) -> Band:
    """Best feasible s after 1 to the equal number of trials, over seeds."""
    counts = range(1, comparison.trials + 1)
    return mean_band(np.array([[run.after(count) for count in counts] for run in comparison.runs[label]]))


def curves_over_cost(comparison: Comparison, label: str, costs: np.ndarray) -> Band:
    """Best feasible s within each of ``costs`` slice passes, over seeds; NaN beyond what all runs have spent."""
    runs = comparison.runs[label]
    band = mean_band(np.array([run.within(costs) for run in runs]))
    ended = costs > max(run.cost for run in runs) if runs[0].view.record.knobs else np.zeros(len(costs), bool)
    return Band(*(np.where(ended, np.nan, values) for values in band))


def _curves_over_trials(comparison: Comparison) -> Figure:
    figure, axes = _figure()
    for label in comparison.order:
        _line(axes, comparison, label, np.arange(1, comparison.trials + 1), curves_over_trials(comparison, label))
    axes.set(title="At equal trials", xlabel="trials", ylabel="best feasible s so far")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _with_levels(figure, axes, comparison)


def _curves_over_cost(comparison: Comparison) -> Figure:
    figure, axes = _figure()
    most = max(run.cost for run in comparison.everything)
    least = min(run.bill[0] for run in comparison.everything)
    costs = np.geomspace(max(least, 1.0) * 0.9, max(most, 2.0), _POINTS)
    for label in comparison.order:
        _line(axes, comparison, label, costs, curves_over_cost(comparison, label, costs))
    axes.axvline(comparison.cost, color=GREY, lw=1, ls="-")
    axes.set(title="At equal cost", xlabel="slice passes, everything billed", xscale="log")
    axes.set_ylabel("best feasible s so far")
    few_numbers(axes.xaxis)
    return _with_levels(figure, axes, comparison)


def _with_levels(figure: Figure, axes: Axes, comparison: Comparison) -> Figure:
    """With the levels of the untouched model and of the oracle, and a legend."""
    view = comparison.everything[0].view
    axes.axhline(view.untouched.value, color=QUIET, lw=1, ls=":")
    if view.oracle is not None:
        axes.axhline(view.oracle.value, color=QUIET, lw=1, ls="--")
    _legend(figure, axes)
    return figure


def _line(axes: Axes, comparison: Comparison, label: str, x: np.ndarray, band: Band) -> None:
    look = look_of(comparison, label)
    axes.plot(x, band.centre, drawstyle="steps-post", label=label, lw=1.8, **look)
    if np.isfinite(band.low).any():
        axes.fill_between(x, band.low, band.high, step="post", color=look["color"], alpha=0.13, lw=0)


def _front(comparison: Comparison) -> Figure:
    figure, axes = _figure(height=4.6)
    for place, label in enumerate(comparison.order):
        items = [item for run in comparison.runs[label] for item in run.view.trials]
        x, y = ([getattr(item.score, what) for item in items] for what in ("remembered", "retained"))
        look = {"s": 16, "alpha": 0.75, "lw": 0, "marker": _MARKERS[place % len(_MARKERS)]}
        axes.scatter(x, y, color=look_of(comparison, label)["color"], label=label, **look)
    front = pareto_front([item for run in comparison.everything for item in run.view.trials if not item.estimated])
    line = {"where": "post", "color": INK, "lw": 1, "label": "front of all"}
    axes.step([item.score.remembered for item in front], [item.score.retained for item in front], **line)
    view = comparison.everything[0].view
    for score, name, marker in ((view.untouched, "untouched", "s"), (view.oracle, "oracle", "d")):
        if score is not None:
            look = {"marker": marker, "facecolor": "none", "edgecolor": INK, "s": 60, "zorder": 4}
            axes.scatter([score.remembered], [score.retained], label=name, **look)
    bound = view.record.rule.min_retained
    axes.axhline(bound, color=QUIET, lw=1, ls=":")
    shown = [item.score.retained for run in comparison.everything for item in run.view.trials]
    bottom = max(0.0, min(bound, float(np.quantile(shown, 0.1))) - 0.05)
    axes.set(xlim=(-0.03, 1.03), ylim=(bottom, 1.0 + 0.03 * (1 - bottom)))
    axes.set(xlabel="remembered (0: as if never seen)", ylabel="retained (1: nothing lost)")
    axes.set_title("All trials of all methods")
    _legend(figure, axes)
    return figure


def radar_values(comparison: Comparison) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(axes, quality and speed, closeness): by label (axes,), in [0, 1]; ``oracle`` among the first where it is known.

    Closeness has the axes but the last, and is empty without an oracle.
    """
    view = comparison.everything[0].view
    measure = "psnr" if "retain_psnr" in view.record.baseline else view.record.quality
    names = [f"{part}_{measure}" for part in PARTS if f"{part}_{measure}" in view.record.baseline]
    raw = {label: [*_measures(run, names), 1 / _seconds(run)] for label, run in comparison.best_of.items()}
    oracle = view.record.oracle
    if oracle is not None:
        raw["oracle"] = [*(as_number(oracle[name]) for name in names), math.nan]
    table = np.array(list(raw.values()))
    with np.errstate(invalid="ignore"):
        shares = np.clip(table / np.nanmax(np.where(np.isfinite(table), table, np.nan), axis=0), 0, 1)
    axes = [*(f"{AXES[name.partition('_')[0]]} ({measure.upper()})" for name in names), "1/RTE"]
    close = {}
    if oracle is not None:
        ends = [(as_number(oracle[name]), as_number(view.record.baseline[name])) for name in names]
        for label, run in comparison.best_of.items():
            found = zip(_measures(run, names), ends, strict=True)
            gaps = [abs(value - aim) / max(abs(start - aim), LEAST * aim, 1e-9) for value, (aim, start) in found]
            close[label] = 1 - np.minimum(1, np.nan_to_num(np.array(gaps), nan=1.0))
    return axes, dict(zip(raw, np.nan_to_num(shares), strict=True)), close


def _radars(comparison: Comparison) -> dict[str, tuple[str, list[str], dict[str, np.ndarray]]]:
    """(title, axes, values by label) of each radar."""
    axes, shares, close = radar_values(comparison)
    found = {"radar_quality": ("Quality and speed", axes, shares)}
    return found | ({"radar_oracle": ("Closeness to the oracle", axes[:-1], close)} if close else {})


def _radar(comparison: Comparison, title: str, names: list[str], values: Mapping[str, np.ndarray]) -> Figure:
    figure, panel = _figure(polar=True)
    angles = np.linspace(0, 2 * np.pi, len(names) + 1)
    for label, row in values.items():
        look = {"color": INK, "ls": ":"} if label == "oracle" else look_of(comparison, label)
        panel.plot(angles, [*row, row[0]], label=label, lw=1.6, **look)
    panel.set_xticks(angles[:-1], names)
    panel.tick_params(axis="x", pad=6)
    for words, side in zip(panel.get_xticklabels(), np.cos(angles[:-1]).round(6), strict=True):
        words.set_horizontalalignment("center" if side == 0 else "left" if side > 0 else "right")  # away from the lines
    panel.set(ylim=(0, 1.05), yticks=[0.25, 0.5, 0.75, 1.0], yticklabels=[], title=title)
    panel.spines["polar"].set_visible(False)
    _legend(figure, panel)
    return figure


def _ranks(test: RankTest, comparison: Comparison) -> Figure:
    """The critical-difference diagram of Demsar (2006), figure 1: best rank left, bars join what does not differ."""
    names = list(test.mean_ranks)
    rows = math.ceil(len(names) / 2)
    figure, axes = _figure(height=1.3 + 0.28 * (rows + len(test.groups)))
    axes.set_axis_off()
    start = 0.5 + 0.4 * len(test.groups)
    width = 0.12 * max(len(names) - 1, 1)
    axes.plot([1, len(names)], [0, 0], color=QUIET, lw=1.5)
    for tick in range(1, len(names) + 1):
        axes.plot([tick, tick], [0, -0.15], color=QUIET, lw=1.5)
        axes.text(tick, -0.3, str(tick), ha="center", va="bottom")
    for place, (name, rank) in enumerate(test.mean_ranks.items()):
        left = place < rows
        end, depth = (1 - width if left else len(names) + width), start + 0.5 * min(place, len(names) - 1 - place)
        axes.plot([rank, rank, end], [0, depth, depth], lw=1.5, **look_of(comparison, name))
        text = f"{name} {rank:.2f}" if left else f"{rank:.2f} {name}"
        axes.text(end, depth, f" {text} ", ha="right" if left else "left", va="center")
    for row, group in enumerate(test.groups):
        ends = [test.mean_ranks[group[0]] - 0.04, test.mean_ranks[group[-1]] + 0.04]
        axes.plot(ends, [0.3 + 0.4 * row] * 2, color=GREY, lw=5, solid_capstyle="butt")
    axes.plot([1, 1 + test.critical_difference], [-1.1, -1.1], color=RED, lw=2)
    axes.text(1, -1.2, f"critical difference {test.critical_difference:.2f}", ha="left", va="bottom")
    axes.set_ylim(start + 0.5 * rows, -1.8)
    return figure


def _figure(height: float = 4.2, polar: bool = False) -> tuple[Figure, Any]:
    """(figure, axes), 5 inches wide: at the width of a phone its letters are still read."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, height), layout="constrained")
    return figure, figure.add_subplot(projection="polar" if polar else None)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(4, 48 // (max(map(len, labels), default=1) + 6)))
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=columns)


def _measures(run: Run, names: Sequence[str]) -> list[float]:
    if run.view.best is None:
        return [math.nan] * len(names)
    found = run.measured(run.view.best)
    return [found[name] for name in names]


def _seconds(run: Run) -> float:
    """Seconds of unlearning of the best trial and of what was done once; at least a millisecond."""
    best = run.view.best
    own = as_number(read_trial(best.trial).get("seconds_unlearn", 0.0)) if best else 0.0
    return max(run.preparation[1] + own, 1e-3)
