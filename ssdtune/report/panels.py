"""Slices before and after, drawn: a row a slice for a screen or for print, three panels across for a phone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdtune.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ERROR_GAIN = 5
"""Error maps show |x - reference| times this, in the window of the images."""

_BACKGROUND, _INK, _QUIET = "#101215", "#f2f3f5", "#9aa3ad"
_GAIN = f"\N{MULTIPLICATION SIGN}{ERROR_GAIN}"
# (heading, width in panels); the narrow one sets the panels against the clean target apart
_COLUMNS = [
    ("target", 1.0),
    ("original model", 1.0),
    ("unlearned model", 1.0),
    (f"error, original {_GAIN}", 1.0),
    (f"error, unlearned {_GAIN}", 1.0),
    ("", 0.12),
    ("clean target", 1.0),
    (f"original vs clean {_GAIN}", 1.0),
    (f"unlearned vs clean {_GAIN}", 1.0),
]
_ACROSS = 7  # models in a row, side by side
_SHOWN = {"ssim": ("SSIM", "{:.3f}"), "psnr": ("PSNR", "{:.1f} dB"), "clean_ssim": ("SSIM", "{:.3f}")}


@dataclass(frozen=True, eq=False)
class SlicePicture:
    """One slice before and after unlearning.

    target, original, unlearned : (h, w) float32 on the target's grid. clean : the clean target where it is known.
    before, after : measures of the original and of the unlearned reconstruction by name (``Task.quality``).
    remark : why it is shown.
    """

    set_name: str
    sample_id: str
    target: np.ndarray
    original: np.ndarray
    unlearned: np.ndarray
    before: Mapping[str, float]
    after: Mapping[str, float]
    clean: np.ndarray | None = None
    remark: str = ""

    def error(self, which: str, reference: str = "target") -> np.ndarray:
        """|reconstruction - reference|, (h, w); ``which`` is "original" or "unlearned", ``reference`` or "clean"."""
        found: np.ndarray = np.abs(getattr(self, which) - getattr(self, reference))
        return found


def draw_pictures(pictures: Sequence[SlicePicture], path: Path | str, title: str) -> Path:
    """One row a slice: target, original, unlearned, both error maps; the same against the clean target if known.

    All images of a row share one intensity window; error maps are scaled by ``ERROR_GAIN`` in that window.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = _COLUMNS if any(picture.clean is not None for picture in pictures) else _COLUMNS[:5]
    heights = [picture.target.shape[0] / picture.target.shape[1] for picture in pictures]
    panel, head, foot, left, right = 1.75, 0.62, 0.34, 0.5, 0.15  # inches
    widths = [width for _, width in columns]
    size = (sum(widths) * panel + left + right, sum(heights) * panel + foot * len(pictures) + head)
    figure = Figure(figsize=size, dpi=130, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    sides = {"left": left / size[0], "right": 1 - right / size[0], "bottom": foot / size[1], "top": 1 - head / size[1]}
    gaps = {"wspace": 0.02, "hspace": foot / (np.mean(heights) * panel)}
    ratios: dict[str, Any] = {"width_ratios": widths, "height_ratios": heights}
    grid = figure.subplots(len(pictures), len(columns), squeeze=False, **ratios, gridspec_kw=sides | gaps)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, picture in zip(grid, pictures, strict=True):
        _draw_row(row, picture)
    for column, (heading, _) in zip(grid.T, columns, strict=True):
        first = next((axes for axes in column if axes.images), None)
        if first is not None:
            first.set_title(heading, color=_INK, fontsize=8, pad=4)
    figure.suptitle(title, color=_INK, fontsize=10, x=left / size[0], y=1 - 0.1 / size[1], ha="left", va="top")
    return _saved(figure, path, format="png")


def draw_narrow(pictures: Sequence[SlicePicture], path: Path | str, title: str) -> Path:
    """The same for a narrow screen: target, original and unlearned across, their error maps below. A WebP file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    clean = any(picture.clean is not None for picture in pictures)
    rows, panel = 3 if clean else 2, 1.3  # inches
    high = panel * max(picture.target.shape[0] / picture.target.shape[1] for picture in pictures)
    size = (3 * panel, len(pictures) * (rows * high + 0.5) + 0.35)
    figure = Figure(figsize=size, dpi=150, facecolor=_BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(pictures) * rows, 3, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, picture in enumerate(pictures):
        own, top = grid[rows * place : rows * (place + 1)], _window(picture)
        for axes, image, name, measured in (
            (own[0][0], picture.target, "target", {}),
            (own[0][1], picture.original, "original", picture.before),
            (own[0][2], picture.unlearned, "unlearned", picture.after),
        ):
            _draw(axes, image, top, _caption(measured, "ssim"))
            axes.set_title(name, color=_INK, fontsize=8, pad=3)
        label = "\n".join(filter(None, (picture.set_name, picture.sample_id, picture.remark, f"errors {_GAIN}")))
        own[1][0].text(0.5, 0.5, label, color=_QUIET, fontsize=7, ha="center", va="center", wrap=True)
        for axes, which in zip(own[1][1:], ("original", "unlearned"), strict=True):
            _draw(axes, picture.error(which) * ERROR_GAIN, top, colours="inferno")
        if picture.clean is not None:
            _draw(own[2][0], picture.clean, top, "clean target")
            for axes, which, measured in zip(
                own[2][1:], ("original", "unlearned"), (picture.before, picture.after), strict=True
            ):
                words = f"vs clean  {_caption(measured, 'clean_ssim')}"
                _draw(axes, picture.error(which, "clean") * ERROR_GAIN, top, words, "inferno")
    figure.suptitle(title, color=_INK, fontsize=8, x=0.02, ha="left", wrap=True)
    return _saved(figure, path, format="webp", pil_kwargs={"quality": 88})


def draw_side_by_side(
    pictures: Mapping[str, SlicePicture], path: Path | str, title: str, across: int = _ACROSS
) -> Path:
    """One slice by several models, ``pictures[label]`` of each: their reconstructions, and below the error maps.

    The untouched model is the first, and rows break after ``across`` panels. A WebP file: many fit on a page.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(pictures.values()))
    top = max(float(np.percentile(first.target, 99.8)), 0.0) or 1.0
    shown = [("untouched", first.original, first.error("original"), first.before)]
    shown += [(label, each.unlearned, each.error("unlearned"), each.after) for label, each in pictures.items()]
    bands = [shown[start : start + across] for start in range(0, len(shown), across)]
    columns, panel = 1 + max(map(len, bands)), 1.55  # inches
    high = panel * first.target.shape[0] / first.target.shape[1]
    size = (columns * panel, len(bands) * (2 * high + 0.55) + 0.35)
    figure = Figure(figsize=size, dpi=100, facecolor=_BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2 * len(bands), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    _draw(grid[0][0], first.target, top)
    grid[0][0].set_title("target", color=_INK, fontsize=8, pad=3)
    grid[1][0].text(0.5, 0.5, f"|x - target| {_GAIN}", color=_QUIET, fontsize=8, ha="center", va="center")
    for row, band in enumerate(bands):
        for place, (label, image, error, measured) in enumerate(band, 1):
            axes, below = grid[2 * row][place], grid[2 * row + 1][place]
            _draw(axes, image, top)
            axes.set_title(f"{label}\n{_caption(measured, 'ssim', 'psnr')}", color=_INK, fontsize=7.5, pad=3)
            _draw(below, error * ERROR_GAIN, top, colours="inferno")
    figure.suptitle(title, color=_INK, fontsize=9, x=0.01, ha="left")
    return _saved(figure, path, format="webp", pil_kwargs={"quality": 90})


def _saved(figure: Figure, path: Path | str, **how: Any) -> Path:
    """The figure as a file. Names of files and studies are texts of any script, and no mathematics between dollars."""
    # not by ``findobj``: it makes the ticks that no panel shows, most of the time of a page
    for text in (*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, axes.title))):
        text.set_parse_math(False)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # that no font has
        figure.savefig(temporary, facecolor=_BACKGROUND, **how)
    return Path(path)


def _draw_row(row: Sequence[Axes], picture: SlicePicture) -> None:
    top = _window(picture)
    _draw(row[0], picture.target, top)
    look: dict[str, Any] = {"color": _QUIET, "fontsize": 7, "rotation": 90, "ha": "right", "va": "center"}
    label = "\n".join(filter(None, (picture.set_name, picture.sample_id, picture.remark)))
    row[0].text(-0.04, 0.5, label, transform=row[0].transAxes, **look)
    _draw(row[1], picture.original, top, _caption(picture.before, "ssim", "psnr"))
    _draw(row[2], picture.unlearned, top, _caption(picture.after, "ssim", "psnr"))
    _draw(row[3], picture.error("original") * ERROR_GAIN, top, colours="inferno")
    _draw(row[4], picture.error("unlearned") * ERROR_GAIN, top, colours="inferno")
    if picture.clean is not None:
        _draw(row[6], picture.clean, top)
        for axes, which, measures in ((row[7], "original", picture.before), (row[8], "unlearned", picture.after)):
            _draw(axes, picture.error(which, "clean") * ERROR_GAIN, top, _caption(measures, "clean_ssim"), "inferno")


def _window(picture: SlicePicture) -> float:
    """The intensity that is drawn white."""
    references = [picture.target] if picture.clean is None else [picture.target, picture.clean]
    return max(float(np.percentile(reference, 99.8)) for reference in references) or 1.0


def _draw(axes: Axes, image: np.ndarray, top: float, caption: str = "", colours: str = "gray") -> None:
    axes.imshow(np.nan_to_num(image), cmap=colours, vmin=0, vmax=top, interpolation="nearest")
    axes.text(0.5, -0.03, caption, transform=axes.transAxes, color=_INK, fontsize=7.5, ha="center", va="top")


def _caption(measures: Mapping[str, float], *names: str) -> str:
    return "   ".join(
        f"{_SHOWN[name][0]} {_SHOWN[name][1].format(measures[name])}" for name in names if name in measures
    )
