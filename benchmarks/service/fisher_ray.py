"""The Fisher analysis on a Ray cluster of two cores of this machine, against one process on one core."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Metrics

if TYPE_CHECKING:
    from ssdtune.fisher.result import FisherAnalysis

STORE = 2 * 2**30  # bytes of Ray's store
CORES = 2
SLOPE = "decay_slope"  # of features that rounding moves more, so that it has a row of its own


def fisher_ray(slices: int, size: int, seed: int) -> Metrics:
    """Of ``slices`` of ``size`` pixels a set. The cluster's processes have imported what they need before the clock."""
    import ray
    import torch

    from benchmarks.fisher.inputs import varnet_task
    from ssdtune.fisher.analysis import analyse
    from ssdtune.mri.networks.stock import VarNetSizes
    from ssdtune.study.cluster import Places
    from ssdtune.study.fisher_on_ray import crew_on

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    network = VarNetSizes(2, 16, 3, 4, 2)  # 1 M parameters
    task, small = varnet_task(slices, size, network, seed), varnet_task(8, 32, VarNetSizes(1, 4, 2, 4, 2), seed)
    ray.init("local", num_cpus=CORES, object_store_memory=STORE, include_dashboard=False, log_to_driver=False)
    try:
        crew = crew_on(Places())
        analyse(small), analyse(small, crew=crew)
        alone, one = _timed(lambda: analyse(task, groups="block"))
        several, two = _timed(lambda: analyse(task, groups="block", crew=crew))
    finally:
        ray.shutdown()
    return {
        "rel_err": relative_error(two, one),
        "slope_err": slope_error(two, one),
        "efficiency": alone / (CORES * several),
        "alone_s": alone,
        "ray_s": several,
    }


def relative_error(found: FisherAnalysis, wanted: FisherAnalysis) -> float:
    """The largest difference of any figure of two analyses but the slopes, over the largest figure of its kind."""
    return max(relative_errors(found, wanted).values())


def relative_errors(found: FisherAnalysis, wanted: FisherAnalysis) -> dict[str, float]:
    """The same of each kind of figure, by its name."""
    pairs: list[tuple[str, Any, Any]] = [
        ("cross", found.cross, wanted.cross),
        ("diagonal", found.denominator_diagonal, wanted.denominator_diagonal),
    ]
    for a, b in ((found.forget, wanted.forget), (found.retain, wanted.retain)):
        names = ("diagonal", "mean", "losses", "embeddings", "gram")
        pairs += [(name, getattr(a, name), getattr(b, name)) for name in names]
        pairs.append(("eigenvalues", a.spectrum.eigenvalues, b.spectrum.eigenvalues))
        pairs += [("eigenvalues", values, b.groups[group]) for group, values in a.groups.items()]
    alpha, depth = np.meshgrid(np.geomspace(0.1, 30, 16), np.geomspace(0.01, 1, 8))
    mine, theirs = (each.damage(alpha, alpha * depth).as_dict() for each in (found, wanted))
    pairs += [("damage", mine[name], theirs[name]) for name in mine]
    ours, others = found.features(), wanted.features()
    pairs += [("features", np.array(ours[name]), np.array(others[name])) for name in ours if not name.endswith(SLOPE)]
    worst: dict[str, float] = {}
    for kind, a, b in pairs:
        error = float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
        worst[kind] = max(worst.get(kind, 0.0), error)
    return worst


def slope_error(found: FisherAnalysis, wanted: FisherAnalysis) -> float:
    """The same of the slopes through logarithms of all eigenvalues above the rounding of gradients."""
    ours, others = found.features(), wanted.features()
    return max(abs(ours[name] / others[name] - 1) for name in ours if name.endswith(SLOPE))


def _timed(work: Callable[[], FisherAnalysis]) -> tuple[float, FisherAnalysis]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found
