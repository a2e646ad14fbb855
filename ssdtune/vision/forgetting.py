"""Class, subset and label-poison forgetting on MNIST and CIFAR-10: which samples to keep, which to forget.

The problems are those of Foster et al. (AAAI 2024, section 4): forget a whole class or a random subset; here also
samples of one class that were trained under a wrong label.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ssdtune.errors import ConfigError, DataError


@dataclass(frozen=True)
class Images:
    """A labelled image set: ``x_*`` (n, channels, height, width) float32 in [-1, 1], ``y_*`` (n,) int64."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    @property
    def channels(self) -> int:
        return self.x_train.shape[1]

    @property
    def classes(self) -> int:
        return int(self.y_train.max()) + 1


@dataclass(frozen=True)
class Split:
    """The sets of one forgetting problem; ``unknown`` is None where every affected sample is known."""

    retain: TensorDataset
    retain_heldout: TensorDataset
    forget: TensorDataset
    unknown: TensorDataset | None


def load_images(path: Path | str) -> Images:
    """Read an ``.npz`` with x_train, y_train, x_test, y_test: uint8, (n, h, w) or (n, h, w, channels).

    Raises DataError: the file is missing, is no ``.npz``, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            raw = [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    except (OSError, ValueError, KeyError) as reason:
        raise DataError(f"cannot read images ({reason})", path, "give an .npz with x_train, y_train, …") from reason
    x_train, y_train, x_test, y_test = raw
    return Images(_pixels(x_train), _labels(y_train), _pixels(x_test), _labels(y_test))


def split(
    images: Images, kind: str, *, label: int, train_size: int, forget_share: float, known_share: float, seed: int
) -> Split:
    """Retain and forget sets of one problem, drawn from ``train_size`` training images by ``seed``.

    kind : ``"class"`` forgets all images of class ``label``; ``"subset"`` a random ``forget_share`` of all;
    ``"label-poison"`` a ``forget_share`` of all, taken from class ``label`` and relabelled as the next class.
    known_share : share of the affected images put in ``forget``; the rest is ``unknown``.

    Raises ConfigError: if the kind is unknown or a set would be empty.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown forgetting kind {kind!r}", todo=f"choose one of {', '.join(KINDS)}")
    rng = np.random.default_rng([zlib.crc32(kind.encode()), label, seed])
    order = rng.permutation(len(images.y_train))[:train_size]
    x, y = images.x_train[order], images.y_train[order].clone()
    affected = KINDS[kind](y, label, forget_share, rng)
    if kind == "label-poison":
        y[affected] = (y[affected] + 1) % images.classes
    known = affected[: max(1, round(known_share * len(affected)))]
    unknown = affected[len(known) :]
    kept = np.setdiff1d(np.arange(len(y)), affected)
    if not len(known) or not len(kept):
        raise ConfigError("the forget or the retain set is empty", kind, "use more images or another share")
    # a forgotten class has no place among the held-out retain images
    test = images.y_test != label if kind == "class" else torch.ones_like(images.y_test, dtype=torch.bool)
    return Split(
        retain=TensorDataset(x[kept], y[kept]),
        retain_heldout=TensorDataset(images.x_test[test], images.y_test[test]),
        forget=TensorDataset(x[known], y[known]),
        unknown=TensorDataset(x[unknown], y[unknown]) if len(unknown) else None,
    )


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Per-sample correctness, (batch,) of 0 or 1, NaN where the logits are not finite."""
    correct = (output.argmax(dim=-1) == target).float()
    return torch.where(output.isfinite().all(dim=-1), correct, torch.nan)


def _of_class(y: Tensor, label: int, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.flatnonzero(y.numpy() == label))


def _of_any(y: Tensor, label: int, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(len(y))[: round(share * len(y))]


def _poisoned(y: Tensor, label: int, share: float, rng: np.random.Generator) -> np.ndarray:
    return _of_class(y, label, share, rng)[: round(share * len(y))]


KINDS: dict[str, Callable[[Tensor, int, float, np.random.Generator], np.ndarray]] = {
    "class": _of_class,
    "subset": _of_any,
    "label-poison": _poisoned,
}


def _pixels(raw: np.ndarray) -> Tensor:
    images = torch.from_numpy(np.ascontiguousarray(raw)).float() / 127.5 - 1.0
    return images[:, None] if images.ndim == 3 else images.movedim(-1, 1).contiguous()


def _labels(raw: np.ndarray) -> Tensor:
    return torch.from_numpy(raw.astype(np.int64))
