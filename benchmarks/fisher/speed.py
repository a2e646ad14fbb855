"""Spectra against curvlinops, diagonals against the published SSD importance loop."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.fisher.inputs import classifier_task, published_importance, varnet_task
from benchmarks.harness import Metrics, show, table
from ssdtune.fisher.diagonal import Moments
from ssdtune.fisher.gather import evenly_spaced, gather
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.gram import gram_matrix
from ssdtune.fisher.memory import plan_memory
from ssdtune.fisher.spectrum import spectrum_of_gram
from ssdtune.fisher.units import Units
from ssdtune.mri.networks.stock import VarNetSizes
from ssdtune.progress import silent
from ssdtune.task import Task

K = 20
VARNETS = {  # n, image size, sizes
    "diagonal_speedup": (192, 32, VarNetSizes(2, 4, 2, 4, 2)),
    "diagonal_speedup_48px": (128, 48, VarNetSizes(2, 4, 2, 4, 2)),
    "diagonal_ratio_loop": (64, 128, VarNetSizes(3, 8, 3, 4, 3)),
}


def in_turn(
    ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray], repeats: int, theirs_times: int = 5
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Median seconds of both, and what both found; taken in turn, after one run of ours that is not timed."""
    found = [ours(), np.empty(0)]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for side, run in enumerate((ours, theirs)):
            if side == 0 or turn < theirs_times:
                started = time.perf_counter()
                found[side] = run()
                times[side].append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1]), found[0], found[1]


def against_curvlinops(options: argparse.Namespace) -> Metrics:
    metrics: Metrics = {"eigen_rel_err": 0.0}
    for n in (64, 256):
        task = classifier_task(n, 8, 16, options.seed)
        peer = Curvlinops(task, n)
        mine, other, found, expected = in_turn(
            partial(leading_eigenvalues, task), peer.leading_eigenvalues, 5, 1 if options.quick else 5
        )
        error = float(np.max(np.abs(found - expected) / expected))
        print(f"n = {n}: {mine:.3f} s against curvlinops' {other:.3f} s, {peer.products} products, error {error:.1e}")
        metrics[f"speedup_vs_curvlinops_n{n}"] = other / mine
        metrics["eigen_rel_err"] = max(metrics["eigen_rel_err"], error)
    return metrics


def leading_eigenvalues(task: Task) -> np.ndarray:
    """Of the forget set's Fisher information, by this library, from nothing."""
    units = Units(task.forget)
    plan = plan_memory(sum(p.numel() for p in task.params.values()), (len(units),), 2.0**32)
    engine = GradientEngine(task, plan.workspace)
    kept = evenly_spaced(len(units), len(units))
    gathered = gather(engine, units, kept, plan, plan.kept[0], "forget", silent)
    return spectrum_of_gram(gram_matrix([gathered.rows])).eigenvalues[:K]


class Curvlinops:
    """The same eigenvalues by curvlinops' operator, whose empirical Fisher of a mean loss is (1/n) Σ g gᵀ as ours."""

    def __init__(self, task: Task, n: int) -> None:
        from curvlinops import EFLinearOperator

        inputs, targets = zip(*(task.forget[index] for index in range(n)), strict=True)
        model = classifier_task(1, 8, 16, 0).model.requires_grad_(True)
        model.load_state_dict(task.model.state_dict())
        self.products = 0
        self._operator = EFLinearOperator(
            model,
            torch.nn.CrossEntropyLoss(),
            list(model.parameters()),
            [(torch.stack(inputs), torch.stack(targets))],
            check_deterministic=False,
            num_data=n,
        )

    def leading_eigenvalues(self) -> np.ndarray:
        from scipy.sparse.linalg import LinearOperator, eigsh

        inner = self._operator.to_scipy(np.float32)
        self.products = 0

        def product(vector: np.ndarray) -> np.ndarray:
            self.products += 1
            found: np.ndarray = inner.matvec(vector.astype(np.float32))
            return found

        # in float64 for scipy: fewer products until it is content than with its own arithmetic in float32
        outer = LinearOperator(inner.shape, matvec=product, dtype=np.float64)
        return np.sort(eigsh(outer, k=K, which="LA", tol=1e-5, return_eigenvectors=False))[::-1]


def against_published_loop(options: argparse.Namespace) -> Metrics:
    metrics, rows = {}, []
    for name, (n, size, sizes) in VARNETS.items():
        large = name == "diagonal_ratio_loop"
        task = varnet_task(n // 2 if options.quick and not large else n, size, sizes, options.seed)
        repeats = 2 if options.quick and large else 5
        mine, other, found, expected = in_turn(partial(diagonal, task), partial(published_importance, task), repeats)
        metrics[name] = mine / other if large else other / mine
        each, error = 1e3 / len(task.forget), float(np.abs(found - expected).max() / expected.max())
        rows.append((f"{size} px, n = {len(task.forget)}", show(mine * each), show(other * each), f"{error:.1e}"))
    print("\n".join(table(("VarNet", "ms a sample", "published loop", "largest difference"), rows)))
    return metrics


def diagonal(task: Task) -> np.ndarray:
    """The forget set's Fisher diagonal by this library, and nothing else but the mean gradient, which comes along."""
    engine = GradientEngine(task, 2.0**31)
    moments = Moments(engine.layout.parameters)
    for block in engine.stream(Units(task.forget)):
        moments.add(block.rows)
    return moments.finish().diagonal
