"""Sites that keep their data: the Fisher analysis merged from what each writes, against that of all their data.

`federated.rel_err`: the largest difference of any figure (diagonals, means, losses, Gram matrices, spectra, damages,
features but the slopes) over the largest of its kind; goal 1e-6. Gradients of small networks are taken of many samples
at once, in float32, and round otherwise beside other samples; `federated.one_by_one_err` is the same with gradients
taken one by one, so it is what sums and files add. `federated.slope_err`: of the decay slopes, which are fitted to
logarithms of eigenvalues down to the rounding of gradients. `federated.{sites,slices,parameters}`.
`federated.part_mib`: what leaves a site, the mean.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from benchmarks.fisher.inputs import varnet_task
from benchmarks.harness import Metrics, main
from benchmarks.service.fisher_ray import relative_error, slope_error
from ssdtune.fisher import gradients
from ssdtune.fisher.analysis import analyse, work_of
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.fisher.sites import merge_parts, write_part
from ssdtune.mri.networks.stock import VarNetSizes
from ssdtune.task import Task

MIB = 2**20


def measure(options: argparse.Namespace) -> Metrics:
    warnings.simplefilter("ignore")
    slices = 24 if options.quick else 48
    task = varnet_task(slices, 32, VarNetSizes(2, 4, 2, 4, 2), options.seed, device=options.device)
    ends = [0, slices // 6, slices // 2, slices]  # three sites of different sizes
    sets = {name: list(map(getattr(task, name).__getitem__, range(slices))) for name in ("retain", "forget")}
    sites = [
        replace(task, retain=sets["retain"][start:stop], forget=sets["forget"][start:stop])
        for start, stop in pairwise(ends)
    ]
    found, wanted, sizes = both_ways(task, sites)
    with patch.dict(gradients._CHUNK, {"cpu": (0.0, 0), "cuda": (0.0, 0)}):
        exact, plain, _ = both_ways(task, sites)
    return {
        "federated.rel_err": relative_error(found, wanted),
        "federated.one_by_one_err": relative_error(exact, plain),
        "federated.slope_err": slope_error(found, wanted),
        "federated.sites": len(sites),
        "federated.slices": 2 * slices,
        "federated.parameters": found.layout.parameters,
        "federated.part_mib": statistics.mean(sizes),
    }


def both_ways(task: Task, sites: Sequence[Task]) -> tuple[FisherAnalysis, FisherAnalysis, list[float]]:
    """The merged analysis, that of the whole, and MiB of each part."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"site{number}.h5" for number in range(len(sites))]
        for path, own in zip(paths, sites, strict=True):
            write_part(path, work_of(own, "per-sample", 1, None, 2.0**30), "per-sample")
        found = merge_parts(paths, groups="block")
        return found, analyse(task, groups="block"), [path.stat().st_size / MIB for path in paths]


if __name__ == "__main__":
    main(__doc__, measure)
