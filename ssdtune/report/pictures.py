"""Before/after pictures of reconstructions: target, original model, unlearned model, and their error maps (PNG)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ssdtune.errors import ConfigError
from ssdtune.files import atomic_path
from ssdtune.task import Samples, Task, batches, sample_ids

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


def has_images(task: Task) -> bool:
    """Whether the task's targets are images, so that it can be pictured."""
    _, target = task.forget[0]
    return isinstance(target, Mapping) and "image" in target


Notable = Mapping[str, Mapping[str, int]]
"""Slices to show, by set: index by why it is shown (``report.volumes.notable_slices``)."""


def slice_pictures(
    task: Task, params: Mapping[str, Tensor], set_name: str, count: int = 2, notable: Notable | None = None
) -> list[SlicePicture]:
    """Reconstruct at most ``count`` slices of a scored set with the untouched model and with ``params``.

    Those that are ``notable``, the first ones first; where none is known they are spread evenly over the set.

    Raises
    ------
    ConfigError : the set is not in the task, or its targets are not images.
    """
    if set_name not in task.scored_sets:
        raise ConfigError(f"no set '{set_name}'", task.name, f"choose one of {', '.join(task.scored_sets)}")
    if not has_images(task):
        raise ConfigError("its targets are not images", task.name, "pictures need a reconstruction task")
    samples = task.scored_sets[set_name]
    ids = sample_ids(samples)
    shown = list((notable or {}).get(set_name, {}).items())[:count]
    shown = shown or [("", index) for index in _spread(len(samples), count)]
    return [
        replace(_picture(task, params, set_name, samples, index, ids[index]), remark=remark) for remark, index in shown
    ]


def write_pictures(
    task: Task,
    params: Mapping[str, Tensor],
    folder: Path | str,
    *,
    count: int = 2,
    title: str = "",
    notable: Notable | None = None,
) -> dict[str, Path]:
    """Write ``before_after_{set}.png`` for every scored set; returns set name -> path.

    Raises
    ------
    ConfigError : the task's targets are not images.
    DataError : ``folder`` cannot be written.
    """
    paths = {name: Path(folder) / f"before_after_{name}.png" for name in task.scored_sets}
    for name, path in paths.items():
        draw_pictures(slice_pictures(task, params, name, count, notable), path, title or f"{task.name}: {name} set")
    return paths


def write_hero(
    task: Task, params: Mapping[str, Tensor], path: Path | str, title: str, notable: Notable | None = None
) -> Path:
    """One retain and one forget slice on one PNG (README, front of a report)."""
    pictures = [slice_pictures(task, params, name, 1, notable)[0] for name in ("retain", "forget")]
    return draw_pictures(pictures, path, title)


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


def draw_side_by_side(pictures: Mapping[str, SlicePicture], path: Path | str, title: str) -> Path:
    """One slice by several models, ``pictures[label]`` of each: their reconstructions, and below the error maps.

    The untouched model is the first, and rows break after ``_ACROSS`` panels. A WebP file: many fit on a page.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(pictures.values()))
    top = max(float(np.percentile(first.target, 99.8)), 0.0) or 1.0
    shown = [("untouched", first.original, first.error("original"), first.before)]
    shown += [(label, each.unlearned, each.error("unlearned"), each.after) for label, each in pictures.items()]
    bands = [shown[start : start + _ACROSS] for start in range(0, len(shown), _ACROSS)]
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
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # that no font has
        figure.savefig(temporary, facecolor=_BACKGROUND, **how)
    return Path(path)


def _picture(
    task: Task, params: Mapping[str, Tensor], set_name: str, samples: Samples, index: int, sample_id: str
) -> SlicePicture:
    (batch,) = batches([samples[index]], 1, task.device)
    target = _array(batch.target["image"])
    images, measured = [], []
    for setting in (None, params):
        with torch.no_grad():
            output = task.predict(setting, batch.inputs)
            values = task.measures(output, batch.target)
        images.append(_centre(_array(output), target.shape))
        measured.append({name: float(value[0]) for name, value in values.items()})
    clean = _array(batch.target["clean"]) if "clean" in batch.target else None
    return SlicePicture(set_name, sample_id, target, images[0], images[1], measured[0], measured[1], clean)


def _array(batch: Any) -> np.ndarray:
    found: np.ndarray = batch[0].detach().float().cpu().numpy()
    return found


def _centre(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Centre crop to ``shape``, as the quality measures do."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape, shape, strict=True))
    return image[top : top + shape[0], left : left + shape[1]]


def _spread(length: int, count: int) -> list[int]:
    """``count`` distinct indices, evenly inside 0 ... length - 1 (fewer if there are fewer)."""
    count = min(count, length)
    return [int((2 * place + 1) * length / (2 * count)) for place in range(count)]


def _draw_row(row: Sequence[Axes], picture: SlicePicture) -> None:
    references = [picture.target] if picture.clean is None else [picture.target, picture.clean]
    top = max(float(np.percentile(reference, 99.8)) for reference in references) or 1.0
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


def _draw(axes: Axes, image: np.ndarray, top: float, caption: str = "", colours: str = "gray") -> None:
    axes.imshow(np.nan_to_num(image), cmap=colours, vmin=0, vmax=top, interpolation="nearest")
    axes.text(0.5, -0.03, caption, transform=axes.transAxes, color=_INK, fontsize=7.5, ha="center", va="top")


def _caption(measures: Mapping[str, float], *names: str) -> str:
    return "   ".join(
        f"{_SHOWN[name][0]} {_SHOWN[name][1].format(measures[name])}" for name in names if name in measures
    )
