"""Before/after pictures of reconstructions: target, original model, unlearned model, and their error maps (PNG)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssdtune.errors import ConfigError
from ssdtune.report.panels import SlicePicture, draw_narrow, draw_pictures
from ssdtune.task import Samples, Task, batches, sample_ids


def has_images(task: Task) -> bool:
    """Whether the task's targets are images, so that it can be pictured."""
    _, target = task.forget[0]
    return isinstance(target, Mapping) and "image" in target


Notable = Mapping[str, Mapping[str, int]]
"""Slices to show, by set: index by why it is shown (``report.volumes.notable_slices``)."""


def slice_pictures(
    task: Task, params: Mapping[str, Tensor], set_name: str, count: int = 2, notable: Notable | None = None
) -> list[SlicePicture]:
    """Reconstruct at most ``count`` slices of a scored set with the untouched model and with ``params``,
    of the shapes (...,) of the model's own.

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
    narrow: bool = False,
) -> dict[str, Path]:
    """Write ``before_after_{set}.png`` for every scored set; returns set name -> path.

    ``params`` are of the shapes (...,) of the model's own.

    narrow : write another beside each, see ``narrow_of``.

    Raises
    ------
    ConfigError : the task's targets are not images.
    DataError : ``folder`` cannot be written.
    """
    paths = {name: Path(folder) / f"before_after_{name}.png" for name in task.scored_sets}
    for name, path in paths.items():
        shown, words = slice_pictures(task, params, name, count, notable), title or f"{task.name}: {name} set"
        draw_pictures(shown, path, words)
        if narrow:
            draw_narrow(shown, narrow_of(path), words)
    return paths


def narrow_of(path: Path) -> Path:
    """Where the picture for a narrow screen lies that belongs to a picture."""
    return path.with_name(f"{path.stem}_narrow.webp")


def write_hero(
    task: Task, params: Mapping[str, Tensor], path: Path | str, title: str, notable: Notable | None = None
) -> Path:
    """One retain and one forget slice on one PNG (README, front of a report)."""
    pictures = [slice_pictures(task, params, name, 1, notable)[0] for name in ("retain", "forget")]
    return draw_pictures(pictures, path, title)


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
