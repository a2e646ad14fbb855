"""Importance of parameters without targets: how strongly the size of the output answers to each.

Notation: f_theta(x) the output, N numbers a sample; m its largest magnitude, held constant (1 for outputs of two axes,
such as the scores of classes). Mean over a set's samples of the absolute, not squared, gradient:

    squared norm    |d/dtheta_p ||f(x) / m||² / N|       Foster et al., "Loss-free machine unlearning", 2024 (LFSSD)
    norm            |d/dtheta_p ||f(x) / m|| / sqrt N|   Schoepf et al., "Potion", 2024 (XLF): outliers weigh less

An absolute gradient's ratios are about the square roots of a Fisher diagonal's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssdtune.dampening import dampen
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.units import Units
from ssdtune.progress import Track, in_parts, silent
from ssdtune.task import Task, as_sample

Size = Literal["squared norm", "norm"]


@dataclass(frozen=True, eq=False)
class Importance:
    """Importances of a task's forget and retain set as ``ratios``; dampens as a Fisher analysis does."""

    params: Mapping[str, Tensor]
    layout: Layout
    ratios: SortedRatios

    def dampen(self, alpha: float, lam: float, exponent: float = 1.0) -> dict[str, Tensor]:
        """The dampened parameters by name, on their own device; see ``ssdtune.dampen``."""
        device = next(iter(self.params.values())).device
        both = (self.ratios.forget, self.ratios.denominator)
        f, o = (self.layout.unflatten(torch.from_numpy(part).to(device)) for part in both)
        return dampen(self.params, f, o, alpha, lam, exponent)

    def selected_fraction(self, alpha: ArrayLike) -> Any:
        """Share of parameters with r > alpha, in alpha's shape (a number of a number)."""
        return self.ratios.selected_fraction(alpha)[()]

    def alpha_at(self, rho: ArrayLike) -> Any:
        """The alpha that selects the share ``rho`` of the parameters (the nearest there is), in rho's shape."""
        return self.ratios.alpha_at(rho)[()]


def importance(task: Task, size: Size, track: Track = silent) -> Importance:
    """Importances of both sets; costs 3 slice passes for each of their samples.

    Raises DataError: an importance is not finite, which a model whose output is not finite gives.
    """
    without_targets = replace(task, loss=_squared_norm if size == "squared norm" else _norm, loss_name=size)
    engine = GradientEngine(without_targets)
    f, o = (_mean_absolute(engine, name, getattr(task, name), track) for name in ("forget", "retain"))
    engine.release()
    return Importance(task.params, engine.layout, SortedRatios.of(f, o))


def output_lacks(task: Task) -> str | None:
    """What a task's output lacks to have a size, in words after "lacks"; None if nothing."""
    inputs, _ = as_sample(task.forget[0])
    with torch.no_grad():
        output = task.predict(None, tuple(value[None].to(task.device) for value in inputs))
    return None if isinstance(output, Tensor) else "an output that is one tensor, whose norm says what matters"


def _mean_absolute(engine: GradientEngine, name: str, samples: Any, track: Track) -> NDArray[np.float32]:
    units = Units(samples, device=engine.task.device)
    total = torch.zeros(engine.layout.parameters, dtype=torch.float64, device=engine.home)
    blocks = engine.stream(units)
    for block in in_parts(blocks, lambda block: len(block.numbers), f"importance, {name} set", len(units), track):
        for row in block.rows:
            total += row.abs()
    found: NDArray[np.float32] = (total / len(units)).float().cpu().numpy()
    return found


def _squared_norm(output: Tensor, target: Any) -> Tensor:
    return _scaled(output).square().mean()


def _norm(output: Tensor, target: Any) -> Tensor:
    values = _scaled(output)
    found: Tensor = torch.linalg.vector_norm(values, dim=1).mean() / values.shape[1] ** 0.5
    return found


def _scaled(output: Tensor) -> Tensor:
    """(batch, N) magnitudes over the sample's largest one."""
    values = (output.abs() if output.is_complex() else output).flatten(1)
    if output.dim() <= 2:
        return values
    largest = values.detach().abs().amax(1, keepdim=True)
    return values / largest.clamp_min(torch.finfo(values.dtype).tiny)
