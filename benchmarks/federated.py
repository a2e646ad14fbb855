"""Sites that keep their data: the Fisher analysis merged from what each writes, against that of all their data.

`federated.rel_err`: the largest difference of any figure (diagonals, means, losses, Gram matrices, spectra, damages,
features but the slopes) over the largest of its kind; goal 1e-6. `federated.slope_err`: of the decay slopes, which are
fitted to logarithms of eigenvalues down to the rounding of gradients. `federated.{sites,slices,parameters}`.
`federated.part_mib`: what leaves a site, the mean.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from benchmarks.fisher.inputs import varnet_task
from benchmarks.harness import Metrics, main
from benchmarks.service.fisher_ray import relative_error, slope_error
from ssdtune.fisher.analysis import analyse, work_of
from ssdtune.fisher.sites import merge_parts, write_part
from ssdtune.mri.networks.stock import VarNetSizes

MIB = 2**20


def measure(options: argparse.Namespace) -> Metrics:
    warnings.simplefilter("ignore")
    slices = 24 if options.quick else 72
    task = varnet_task(slices, 32, VarNetSizes(2, 4, 2, 4, 2), options.seed, device=options.device)
    ends = [0, slices // 6, slices // 2, slices]  # three sites of different sizes
    sets = {name: list(map(getattr(task, name).__getitem__, range(slices))) for name in ("retain", "forget")}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"site{number}.h5" for number in range(len(ends) - 1)]
        for path, start, stop in zip(paths, ends, ends[1:], strict=False):
            own = replace(task, retain=sets["retain"][start:stop], forget=sets["forget"][start:stop])
            write_part(path, work_of(own, "per-sample", 1, None, 2.0**30), "per-sample")
        found, wanted = merge_parts(paths, groups="block"), analyse(task, groups="block")
        sizes = [path.stat().st_size / MIB for path in paths]
    return {
        "federated.rel_err": relative_error(found, wanted),
        "federated.slope_err": slope_error(found, wanted),
        "federated.sites": len(paths),
        "federated.slices": 2 * slices,
        "federated.parameters": found.layout.parameters,
        "federated.part_mib": statistics.mean(sizes),
    }


if __name__ == "__main__":
    main(__doc__, measure)
