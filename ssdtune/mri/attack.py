"""Worst-case perturbations of a reconstruction, by projected gradient ascent.

Notation: f the model, k masked k-space, M its sampled lines, eps the size. Maximised is |f(k + e) - f(k)|_2^2 of each
slice (Darestani et al., ICML 2021, arXiv 2102.06103, eq. 2) over

- ``l2``: e = M e with |e|_2 <= eps |k|_2, steps along the normalised gradient;
- ``linf``: e = M F(S r) with |r| <= eps R in every pixel, R the volume's maximum and S the zero-filled coil images over
  their root sum of squares, which stand for coil sensitivities and phase: an image that looks the same, scanned. Steps
  along the gradient's sign (Madry et al., ICLR 2018). A U-Net's input is an image, to which r is added.

Steps are 2.5 eps / steps long. The start is small noise named by the slice, as the gradient at e = 0 is zero: the same
call finds the same perturbation. torchattacks and foolbox attack what a classifier says of an image, with no relative
size in complex k-space; torchattacks 3.5 also holds requests at 2.25, and foolbox 3.3 asks for GitPython.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import fastmri
import numpy as np
import torch
from torch import Tensor

from ssdtune.device import full_precision
from ssdtune.errors import ConfigError
from ssdtune.mri.quality import center_crop
from ssdtune.mri.seeds import named_rng
from ssdtune.task import Batch, Chosen, Samples, Task, batches, sample_ids

Norm = Literal["l2", "linf"]
LADDERS: dict[Norm, tuple[float, ...]] = {
    "l2": (0.01, 0.02, 0.04, 0.08),
    "linf": (1 / 255, 2 / 255, 4 / 255, 8 / 255),
}
STEPS = 50
# of the size, where the ascent starts
START = 0.01

Inputs = tuple[Tensor, ...]
Predict = Callable[[Inputs], Tensor]


@dataclass(frozen=True)
class Attacked:
    """What became of some slices under one attack: per-slice values (n,) float64 by measure, ``change`` first, the
    relative l2 distance of the two reconstructions. ``images`` : reconstructions before and after, (n, h, w)."""

    eps: float
    measures: Mapping[str, np.ndarray]
    images: tuple[np.ndarray, np.ndarray]


@full_precision()
def attack(
    task: Task,
    params: Mapping[str, Tensor] | None,
    samples: Samples,
    norm: Norm,
    eps: float,
    *,
    steps: int = STEPS,
    batch_size: int = 8,
) -> Attacked:
    """Attack the reconstruction of all samples, of equal size, by the model with ``params`` (None: as it is).

    Raises ConfigError: ``eps`` or ``steps`` out of range, samples that are no reconstruction's, or an ``l2`` attack of
    a U-Net, whose input is no k-space.
    """
    if not 0 <= eps < np.inf or steps < 1:
        raise ConfigError(f"eps {eps}, {steps} steps", "attack", "give 0 or more, and at least 1 step")
    ids, found, images = sample_ids(samples), list[dict[str, Tensor]](), list[tuple[Tensor, Tensor]]()
    for batch in batches(samples, batch_size, task.device):
        _check(batch, norm, task.name)
        names = [ids[place] for place in batch.indices]

        def predict(inputs: Inputs) -> Tensor:
            image: Tensor = task.predict(params, inputs)
            return image

        with torch.no_grad():
            before = predict(batch.inputs)
        inputs = worst_case(predict, batch, before, norm, eps, steps, names) if eps else batch.inputs
        with torch.no_grad():
            after = predict(inputs)
        a, b = (center_crop(image, batch.target["image"]).double() for image in (before, after))
        change = (b - a).square().sum((-2, -1)).sqrt() / a.square().sum((-2, -1)).sqrt()
        found.append({"change": change, **task.measures(after, batch.target)})
        images.append((a, b))
    measures = {name: torch.cat([each[name] for each in found]).double().cpu().numpy() for name in found[0]}
    before_all, after_all = (torch.cat(each).float().cpu().numpy() for each in zip(*images, strict=True))
    return Attacked(eps, measures, (before_all, after_all))


def worst_case(
    predict: Predict, batch: Batch, before: Tensor, norm: Norm, eps: float, steps: int, names: Sequence[str]
) -> Inputs:
    """The perturbed inputs of a batch; ``names`` (batch,) name the start of each slice."""
    apply, shape = _ways(batch, norm)
    noise = np.stack([named_rng(0, "attack", norm, name).standard_normal(shape, np.float32) for name in names])
    e = torch.from_numpy(noise).to(before.device)
    e = _project(e, START, norm) if norm == "l2" else START * e.sign()
    for _ in range(steps):
        e.requires_grad_(True)
        change = (predict(apply(eps * e)) - before).square().sum()
        (slope,) = torch.autograd.grad(change, e)
        with torch.no_grad():
            along = slope.sign() if norm == "linf" else slope / _norms(slope).clamp_min(1e-30)
            e = _project(e + 2.5 / steps * along, 1.0, norm)
    return apply(eps * e.detach())


def _ways(batch: Batch, norm: Norm) -> tuple[Callable[[Tensor], Inputs], tuple[int, ...]]:
    """How a perturbation in units of its scale enters the inputs, and its shape for one slice."""
    first, *rest = batch.inputs
    top = batch.target["max"].to(first.dtype)
    if rest[0].dtype != torch.bool:  # a U-Net's normalised image, its mean and its std
        std = rest[1]
        return lambda e: (first + e * (top / std)[:, None, None], *rest), tuple(first.shape[1:])
    mask = rest[0]
    if norm == "l2":
        size = _norms(first)
        return lambda e: (first + torch.where(mask, e * size, 0.0), *rest), tuple(first.shape[1:])
    coils = fastmri.ifft2c(first)
    maps = coils / fastmri.rss(fastmri.complex_abs(coils), dim=1)[:, None, ..., None].clamp_min(1e-30)

    def scanned(e: Tensor) -> Inputs:
        image = (e * top[:, None, None])[:, None, ..., None] * maps
        return (first + torch.where(mask, fastmri.fft2c(image), 0.0), *rest)

    return scanned, tuple(first.shape[2:4])


def _project(e: Tensor, size: float, norm: Norm) -> Tensor:
    if norm == "linf":
        clipped: Tensor = e.clamp(-size, size)
        return clipped
    found: Tensor = e * (size / _norms(e).clamp_min(size))
    return found


def _norms(e: Tensor) -> Tensor:
    found: Tensor = e.flatten(1).norm(dim=1).reshape(-1, *[1] * (e.ndim - 1))
    return found


def _check(batch: Batch, norm: Norm, name: str) -> None:
    if not isinstance(batch.target, Mapping) or "max" not in batch.target or len(batch.inputs) != 3:
        raise ConfigError("no reconstruction of slices", name, "attack a study of a VarNet or a U-Net")
    if norm == "l2" and batch.inputs[1].dtype != torch.bool:
        raise ConfigError("a U-Net's input is no k-space", name, "use --norm linf")


def chosen_slices(samples: Samples, count: int) -> Chosen:
    """At most ``count`` slices of a set, spread evenly over it."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    return Chosen(samples, places.tolist())
