"""Damage surfaces against direct sums, and how their time grows with the parameters."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Metrics, show, table
from ssdtune.arrays import Array
from ssdtune.fisher.damage import DamageSurfaces, DamageTerms
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.sums import DiagonalSums
from ssdtune.fisher.tables import RowTables

PLANE = np.meshgrid(np.geomspace(0.03, 30, 64), np.geomspace(0.01, 30, 64), indexing="ij")
SIZES = (100_000, 1_000_000, 10_000_000, 30_000_000)
LEADING = 4  # eigenvectors in the low-rank form
# from row tables, which between their knots are interpolated
INTERPOLATED = {f"{name}_{form}" for name in ("forget", "retain") for form in ("full", "low_rank")}


@dataclass(frozen=True)
class Part:
    """One sample set: gradients (n, P) float32, their mean and Fisher diagonal, and eigenvectors (n, k)."""

    gradients: NDArray[np.float32]
    mean: NDArray[np.float32]
    diagonal: NDArray[np.float32]
    leading: Array


def make_part(rng: np.random.Generator, n: int, parameters: int) -> Part:
    """Gradients of every size, as trained networks have."""
    scale = np.exp(2 * rng.standard_normal(parameters, dtype=np.float32))
    gradients = rng.standard_normal((n, parameters), dtype=np.float32)
    gradients *= scale
    gram = (gradients @ gradients.T).astype(np.float64)
    diagonal = np.zeros(parameters, np.float32)
    for row in gradients:
        diagonal += row * row / np.float32(n)
    return Part(gradients, gradients.mean(0), diagonal, np.linalg.eigh(gram)[1][:, ::-1][:, :LEADING])


def plane_of(theta: NDArray[np.float32], forget: Part, retain: Part) -> DamageTerms:
    """The whole plane, from nothing but the gradients and their moments."""
    ratios = SortedRatios.of(forget.diagonal, retain.diagonal)
    sums = DiagonalSums(
        ratios,
        theta,
        forget=forget.diagonal,
        retain=retain.diagonal,
        forget_mean=forget.mean,
        retain_mean=retain.mean,
    )
    tables = []
    for part in (forget, retain):
        rows = torch.from_numpy(part.gradients)
        tables.append(RowTables.of(ratios, theta, [(slice(0, len(rows)), rows)], len(rows)))
    leading = [rows.project(part.leading) for rows, part in zip(tables, (forget, retain), strict=True)]
    return DamageSurfaces(sums, *tables, *leading)(*PLANE)


def plain_plane(theta: NDArray[np.float32], forget: Part, retain: Part) -> Callable[[float, float], dict[str, float]]:
    """A function that sums every term at one point, by its definition."""
    ratio = forget.diagonal / retain.diagonal
    norm = np.linalg.norm(theta)

    def terms(alpha: float, lam: float) -> dict[str, float]:
        factor = np.where(ratio > alpha, np.minimum(np.float32(lam) / ratio, 1), 1)
        delta = theta * (factor - 1)
        square = delta * delta
        found = {
            "selected_fraction": (factor < 1).mean(),
            "relative_change": np.sqrt(square.sum()) / norm,
            "mean_dampening": (1 - factor).mean(),
        }
        for name, part in (("forget", forget), ("retain", retain)):
            products = part.gradients @ delta
            found[f"{name}_diagonal"] = 0.5 * (part.diagonal @ square)
            found[f"{name}_full"] = 0.5 * np.mean(products**2)
            found[f"{name}_low_rank"] = 0.5 * np.sum((part.leading.T @ products) ** 2) / len(products)
            found[f"{name}_first"] = part.mean @ delta
        return {name: float(value) for name, value in found.items()}

    return terms


def damage_planes(options: argparse.Namespace) -> Metrics:
    rng = np.random.default_rng(options.seed)
    seconds, rows = {}, []
    for parameters in SIZES:
        theta = rng.standard_normal(parameters, dtype=np.float32)
        parts = [make_part(rng, 2, parameters) for _ in range(2)]
        repeats = 5 if parameters <= 1_000_000 else 1 if options.quick else 3
        seconds[parameters] = median(partial(plane_of, theta, *parts), repeats)
        rows.append((f"{parameters:,}", show(seconds[parameters]), show(1e9 * seconds[parameters] / parameters)))
    print("\n".join(table(("parameters", "sort, sums, tables, plane in s", "ns a parameter"), rows)))
    slope = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0]
    return {
        "damage_plane_speedup": against_direct_sums(rng),
        "damage_plane_30m_s": seconds[30_000_000],
        "damage_growth_exponent": float(slope),
    }


def against_direct_sums(rng: np.random.Generator, parameters: int = 1_000_000, points: int = 32) -> float:
    """Time of summing at all points of the plane over ours; also shows by how much the terms differ."""
    theta = rng.standard_normal(parameters, dtype=np.float32)
    forget, retain = make_part(rng, 8, parameters), make_part(rng, 8, parameters)
    ours = median(lambda: plane_of(theta, forget, retain), 5)
    surfaces = plane_of(theta, forget, retain).as_dict()
    plain, times = plain_plane(theta, forget, retain), []
    errors = dict.fromkeys(surfaces, 0.0)
    for point in rng.choice(PLANE[0].size, points, replace=False):
        started = time.perf_counter()
        found = plain(PLANE[0].flat[point], PLANE[1].flat[point])
        times.append(time.perf_counter() - started)
        for name, values in surfaces.items():
            error = abs(found[name] - values.flat[point]) / np.abs(values).max()
            errors[name] = max(errors[name], float(error))
    exact = max(error for name, error in errors.items() if name not in INTERPOLATED)
    between = max(errors[name] for name in INTERPOLATED)
    direct = statistics.median(times) * PLANE[0].size
    print(
        f"{parameters:,} parameters: plane {ours:.3f} s, direct {direct:.0f} s; largest difference over the term's "
        f"largest value {exact:.1e}, of interpolated terms {between:.1e}"
    )
    return direct / ours


def median(run: Callable[[], object], repeats: int) -> float:
    """Median seconds; no warm-up, the user has none either."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
