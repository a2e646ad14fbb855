"""The metric of the spectral update in parameter space, with kept gradient rows or their leading eigenvectors.

Notation as in ``response``: M(mu) = F_r + mu D, D = c (identity) or c diag(o + eps), o the retain Fisher diagonal and c
such that the largest eigenvalue of D^-1/2 F_r D^-1/2 is 1. With rows G (k, P), A_rr / n = U diag(l) Uᵀ,

    M⁻¹ v = D⁻¹ (v - Gᵀ z) / mu,   z = U diag(1 / (n (mu + l))) Uᵀ G D⁻¹ v.

Low rank: rows U_kᵀ G take the place of G, with U the identity; it leaves the eigenvalues beyond the k-th out of F_r.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ssdtune.arrays import Array
from ssdtune.device import trim_heap
from ssdtune.errors import ConfigError, ModelError
from ssdtune.fisher.gather import GradientSet, evenly_spaced, gather
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.gram import gram_matrix
from ssdtune.fisher.memory import plan_memory
from ssdtune.fisher.ratios import positive
from ssdtune.fisher.response import SampleSpace
from ssdtune.fisher.rows import MemoryRows, Rows
from ssdtune.fisher.spectrum import spectrum_of_gram
from ssdtune.fisher.units import Units
from ssdtune.progress import Track, silent
from ssdtune.task import Task

MetricKind = Literal["identity", "diagonal"]
EPSILON = 0.01
"""eps over the mean of o: bounds how far parameters may go that the retain set does not see."""

_TILE = 64  # rows of a triangle at a time
_ENTRIES = 1 << 19  # float64 entries of a block at a time


@dataclass(frozen=True, eq=False)
class Metric:
    """M(mu), ready to be applied.

    weights : (P,) float32, the diagonal of D⁻¹. means : (2, P) float32, ḡ_f and ḡ_r of the untouched model.
    rows : k gradient rows, or k combinations of them. n : retain samples behind them.
    eigenvalues, vectors : l (k,) and U (k, k).
    largest : c, the largest retain eigenvalue before D was scaled.
    """

    weights: Tensor
    means: Tensor
    rows: Rows
    n: int
    eigenvalues: Array
    vectors: Array
    largest: float

    @property
    def rank(self) -> int:
        return len(self.eigenvalues)

    def apply(self, vector: Tensor, mu: float) -> Tensor:
        """M(mu)⁻¹ v, (P,) in v's dtype, summed in float64; two passes over the rows."""
        seen = self.vectors.T @ _dots(self.rows, self.weights * vector)
        return self._remove(vector, self.vectors @ (seen / (self.n * (_one(mu) + self.eigenvalues))), mu)

    def direction(self, space: SampleSpace, mu: float, retain_weight: float) -> Tensor:
        """d(mu, w) (P,) float32 at the untouched model from ``space``'s coefficients; one pass over the rows."""
        z = space.coefficients(_one(mu), retain_weight)[:, 0]
        z = self.vectors @ (space.spectrum.vectors[:, : self.rank].T @ z)  # of these rows, which may be combinations
        return self._remove(self.means[0] - retain_weight * self.means[1], z, mu)

    def reduced(self, rank: int) -> Metric:
        """The low-rank form, its ``rank`` rows (4 P bytes each) in memory; one pass over the rows."""
        kept = MemoryRows(rank, self.rows.parameters, self.weights.device)
        kept.values.zero_()
        mixing = torch.from_numpy(np.ascontiguousarray(self.vectors[:, :rank].T))
        for place, block in self.rows.blocks():
            kept.values.addmm_(mixing[:, place].to(block), block)
        return replace(self, rows=kept, eigenvalues=self.eigenvalues[:rank], vectors=np.eye(rank))

    def _remove(self, vector: Tensor, z: Array, mu: float) -> Tensor:
        left = vector.to(torch.float64, copy=True)
        coefficients = torch.from_numpy(np.ascontiguousarray(z)).to(left)
        for place, block in self.rows.blocks():
            for part in _stretches(block.shape[1], len(block)):
                left[part] -= coefficients[place] @ block[:, part].double()
        return left.mul_(self.weights).div_(mu).to(vector.dtype)


def relinearised(
    theta: Tensor,
    first: Tensor,
    ascent: Callable[[Tensor], Tensor],
    metric: Metric,
    *,
    mu: float,
    eta: float,
    steps: int,
) -> Tensor:
    """``steps`` spectral steps in the metric of the untouched model, each of length eta |theta| / sqrt(steps).

    theta : (P,) untouched parameters. first : (P,) d there. ascent : theta -> ḡ_f - w ḡ_r there, (P,). The way ends
    where a direction vanishes; where one is not finite, all that is returned is NaN.
    """
    length = float(positive("eta", eta)) * theta.norm() / math.sqrt(steps)
    for step in range(steps):
        d = metric.apply(ascent(theta), mu) if step else first
        norm = d.norm()
        if norm == 0:
            break
        theta = theta + length * d / norm
        if not norm.isfinite():
            return torch.full_like(theta, math.nan)
    return theta


def spectral_metric(
    task: Task,
    kind: MetricKind = "diagonal",
    *,
    epsilon: float = EPSILON,
    memory_budget: float = 4 * 2**30,
    most: int = 512,
    reduce: bool = True,
    track: Track = silent,
) -> tuple[Metric, SampleSpace]:
    """Gradients of both sets, each computed once; their metric and what it says in sample space.

    most : units of each set, evenly spaced, whose rows are used. Retain rows that do not fit in ``memory_budget`` bytes
    are spilled for the matrices, and their leading eigenvectors, as many as fit, kept; without ``reduce`` the rows stay
    on the disk, which every use of the metric then reads.

    Raises
    ------
    ConfigError : an argument out of range, or too small a budget.
    DataError : a gradient is not finite. ModelError : all retain or all forget gradients are zero.
    """
    engine = GradientEngine(task)
    units = {name: Units(getattr(task, name), 1, task.device) for name in ("retain", "forget")}
    kept = {name: evenly_spaced(len(part), most) for name, part in units.items()}
    size = engine.layout.parameters
    plan = plan_memory(size, tuple(map(len, kept.values())), memory_budget)
    engine.workspace = plan.workspace
    retain, forget = (
        gather(engine, part, kept[name], plan, here, name, track)
        for (name, part), here in zip(units.items(), plan.kept, strict=True)
    )
    theta_norm = float(np.linalg.norm(engine.layout.flatten(task.params)))
    metric, space = metric_of(forget, retain, theta_norm, kind, epsilon, engine.home)
    del forget  # its rows make room for the eigenvectors
    if retain.rows.kind == "memory" or not reduce:
        return metric, space
    del retain
    trim_heap()
    fits = (k for k in range(metric.rank, 0, -1) if plan_memory(size, (k,), memory_budget).kept[0])
    rank = next(fits, 0)
    if not rank:
        raise ConfigError("no eigenvector fits in the memory budget", "spectral", "raise memory_budget")
    return metric.reduced(rank), replace(space, rank=rank)


def metric_of(
    forget: GradientSet,
    retain: GradientSet,
    theta_norm: float,
    kind: MetricKind = "diagonal",
    epsilon: float = EPSILON,
    device: torch.device | str = "cpu",
) -> tuple[Metric, SampleSpace]:
    """The full form, from gathered gradients; one pass over the columns of both sets' rows, which are on ``device``.

    Raises
    ------
    ConfigError : no such kind of metric.
    ModelError : all gradients of a set are zero.
    """
    if kind not in get_args(MetricKind):
        raise ConfigError(f"metric must be {' or '.join(get_args(MetricKind))}, got {kind!r}", "spectral")
    for name, part in (("forget", forget), ("retain", retain)):
        if not part.trace > 0:
            raise ModelError(f"all gradients of the {name} set are zero", "spectral", "check loss and model")
    o = torch.from_numpy(retain.diagonal)
    diagonal = torch.ones_like(o) if kind == "identity" else o + float(positive("epsilon", epsilon)) * o.mean()
    means = MemoryRows(2, len(o), device)
    for mean in (forget.mean, retain.mean):
        means.append(torch.from_numpy(mean)[None])
    weights = diagonal.reciprocal_().to(device)
    sets = (forget.rows, retain.rows, means)
    weighted, squared = (gram_matrix(sets),) * 2 if kind == "identity" else weighted_grams(sets, weights)
    own = slice(forget.n, forget.n + retain.n)
    largest = float(spectrum_of_gram(weighted[own, own]).eigenvalues[0])
    weighted, squared = weighted / largest, squared / largest**2
    spectrum = spectrum_of_gram(weighted[own, own])
    space = SampleSpace(weighted, squared, forget.n, retain.n, theta_norm, spectrum, retain.n)
    metric = Metric(
        weights.div_(float(largest)),
        means.values,
        retain.rows,
        retain.n,
        spectrum.eigenvalues,
        spectrum.vectors,
        float(largest),
    )
    return metric, space


def weighted_grams(sets: Sequence[Rows], weights: Tensor) -> tuple[Array, Array]:
    """G W Gᵀ and G W² Gᵀ (N, N) float64 of all sets' rows, W = diag(weights (P,)); one pass over the columns."""
    n, width = sum(map(len, sets)), min(rows.width for rows in sets)
    once, twice = (torch.zeros(n, n, dtype=torch.float64, device=weights.device) for _ in range(2))
    for start in range(0, len(weights), width):
        panels = [rows.columns(slice(start, start + width)) for rows in sets]
        for part in _stretches(panels[0].shape[1], n):
            values = torch.cat([panel[:, part].double() for panel in panels])
            scaled = values * weights[start : start + width][part]
            for top in range(0, n, _TILE):  # the lower triangle alone
                bottom = min(top + _TILE, n)
                once[top:bottom, :bottom].addmm_(scaled[top:bottom], values[:bottom].T)
                twice[top:bottom, :bottom].addmm_(scaled[top:bottom], scaled[:bottom].T)
        del panels
    once, twice = (found.tril() + found.tril(-1).T for found in (once, twice))
    return once.cpu().numpy(), twice.cpu().numpy()


def _dots(rows: Rows, vector: Tensor) -> Array:
    """G v (k,) float64."""
    found = torch.zeros(len(rows), dtype=torch.float64, device=vector.device)
    for place, block in rows.blocks():
        for part in _stretches(block.shape[1], len(block)):
            found[place] += block[:, part].double() @ vector[part].double()
    return found.cpu().numpy()


def _stretches(size: int, rows: int) -> list[slice]:
    step = max(256, _ENTRIES // max(rows, 1))
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _one(mu: float) -> float:
    return float(positive("mu", mu))
