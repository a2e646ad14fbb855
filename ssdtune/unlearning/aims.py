"""What an output is trained towards: the sample's own target, the target with noise, or an output that is kept.

An aim is a function (model, batch) -> scalar loss. Distances d(f(x), reference) are the task's loss with the reference
as target where that has a meaning, so that weights of different aims can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssdtune.nests import change, leaves
from ssdtune.task import Distance, Noise, Task, as_sample
from ssdtune.unlearning.sets import Batch, generator_of

Aim = Callable[[nn.Module, Batch], Tensor]
Output = Callable[[nn.Module, Batch], Any]

NoiseKind = Literal["half-normal", "normal"]


class Kept:
    """Something of every slice of a set, e.g. a teacher's output, made once; ``kept(batch)`` is that of a batch."""

    def __init__(self, parts: Iterable[tuple[Batch, Any]]) -> None:
        groups: dict[int, list[Any]] = {}
        for batch, value in parts:
            groups.setdefault(batch.group, []).append(value)
        self._groups = {group: _joined(values) for group, values in groups.items()}

    def __call__(self, batch: Batch) -> Any:
        return change(lambda value: value[batch.rows], self._groups[batch.group])


def towards(kept: Kept, output: Output, distance: Distance) -> Aim:
    """d(f(x), what is kept of x)."""
    return lambda model, batch: distance(output(model, batch), kept(batch), batch.target)


def with_noise(
    loss: Callable[[Any, Any], Tensor],
    output: Output,
    noise: Noise,
    size: float,
    key: list[str],
    kind: NoiseKind = "half-normal",
    fresh: bool = True,
) -> Aim:
    """The loss against the target with noise; ``fresh`` : drawn anew at each step, else once for each slice.

    One aim serves one training, as its draws follow each other.
    """
    stream = generator_of([*key, "noise"])

    def normal(like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float32)

    def aim(model: nn.Module, batch: Batch) -> Tensor:
        rows = [] if fresh else batch.rows.tolist()
        slices = [generator_of([*key, "noise", str(batch.group), str(row)]) for row in rows]

        def draw(like: Tensor) -> Tensor:
            n = (
                normal(like, stream)
                if fresh
                else torch.stack([normal(one, g) for one, g in zip(like, slices, strict=True)])
            )
            return (n.abs() if kind == "half-normal" else n).to(like.device)

        return loss(output(model, batch), noise(batch.target, size, draw))

    return aim


def distance_of(task: Task) -> Distance | None:
    """The task's own distance, or that of a known loss; None where neither is there."""
    if task.distance is not None:
        return task.distance
    if task.loss is F.cross_entropy:
        return divergence
    if task.loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss):
        return lambda output, reference, target: task.loss(output, reference)
    return None


def divergence(output: Tensor, reference: Tensor, target: Any) -> Tensor:
    """KL(softmax(reference) || softmax(output)), mean over the batch; classes along dimension 1."""
    p = reference.softmax(1)
    found: Tensor = (torch.special.xlogy(p, p) - p * output.log_softmax(1)).sum() / (p.numel() / p.shape[1])
    return found


def noise_of(task: Task) -> Noise | None:
    """The task's own noise; else for targets that are float tensors noise relative to the sample's largest value, and
    for labels of ``cross_entropy`` wrong labels; None for other targets."""
    inputs, target = as_sample(task.retain[0])
    if task.noise is not None:
        return task.noise
    if not isinstance(target, Tensor):
        return None
    if target.is_floating_point():
        return _added
    if task.loss is F.cross_entropy:
        with torch.no_grad():
            output = task.predict(None, tuple(value[None].to(task.device) for value in inputs))
        return wrong_labels(output.shape[1])
    return None


def wrong_labels(classes: int) -> Noise:
    """Noise of labels: each is replaced by another class, drawn evenly, with probability ``size`` (at most 1)."""

    def noise(target: Tensor, size: float, draw: Callable[[Tensor], Tensor]) -> Tensor:
        first, second = (torch.erf(draw(target).abs() / 2**0.5) for _ in range(2))  # uniform in [0, 1]
        other = (target + 1 + (second * (classes - 1)).long().clamp(max=classes - 2)) % classes
        return torch.where(first < size, other, target)

    return noise


def _added(target: Tensor, size: float, draw: Callable[[Tensor], Tensor]) -> Tensor:
    largest = target.abs().reshape(len(target), -1).amax(1).reshape(-1, *[1] * (target.dim() - 1))
    return target + size * largest * draw(target)


def _joined(values: list[Any]) -> Any:
    """Nests of one form, stacked along the first axis."""
    columns = iter([torch.cat(parts) for parts in zip(*map(leaves, values), strict=True)])
    return change(lambda _: next(columns), values[0])
