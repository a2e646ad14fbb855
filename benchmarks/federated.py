"""Sites that keep their data: the Fisher analysis merged from what each writes, against that of all their data.

`federated.rel_err`: the largest difference of any figure (diagonals, means, losses, Gram matrices, spectra, damages,
features but the slopes) over the largest of its kind; goal 1e-6. `federated.{sums,gram,spectra,features}_err`: the same
of sums over samples (diagonals, means, losses, embeddings), of single inner products, of eigenvalues and damages, and
of features. `federated.one_by_one_err` is the same with gradients taken one by one, `federated.batching_err` that of
the whole between gradients in batches and one by one. `federated.slope_err`: of the decay slopes, which are fitted to
logarithms of eigenvalues down to the rounding of gradients.
`federated.{sites,slices,parameters}`. `federated.part_mib`: what leaves a site, the mean. One untrained network.
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

import h5py

from benchmarks.fisher.inputs import varnet_task
from benchmarks.harness import ROOT, Metrics, main
from benchmarks.service.fisher_ray import relative_errors, slope_error
from ssdtune.fisher import gradients
from ssdtune.fisher.analysis import analyse, work_of
from ssdtune.fisher.crew import SETS
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.fisher.sites import merge_parts, write_part
from ssdtune.mri.networks.stock import VarNetSizes
from ssdtune.report.style import matplotlib_settings
from ssdtune.task import Task

MIB = 2**20
PICTURE = ROOT / "docs/images/federated.png"
GOAL = 1e-6
EDGE = 1e-9  # of the picture
KINDS = {
    "sums": ("diagonal", "mean", "losses", "embeddings"),
    "gram": ("gram", "cross"),
    "spectra": ("eigenvalues", "damage"),
    "features": ("features",),
}
"""What figures are made of, by the names of ``relative_errors``."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    warnings.simplefilter("ignore")
    slices = 24 if chosen.quick else 48
    task = varnet_task(slices, 32, VarNetSizes(2, 4, 2, 4, 2), chosen.seed, device=chosen.device)
    ends = [0, slices // 6, slices // 2, slices]  # three sites of different sizes
    sets = {name: list(map(getattr(task, name).__getitem__, range(slices))) for name in ("retain", "forget")}
    sites = [
        replace(task, retain=sets["retain"][start:stop], forget=sets["forget"][start:stop])
        for start, stop in pairwise(ends)
    ]
    found, wanted, left = both_ways(task, sites)
    with patch.dict(gradients._CHUNK, {"cpu": (0.0, 0), "cuda": (0.0, 0)}):
        exact, plain, _ = both_ways(task, sites)
    errors = {"as it runs": relative_errors(found, wanted), "one by one": relative_errors(exact, plain)}
    if chosen.picture:
        draw(errors, left, [2 * (stop - start) for start, stop in pairwise(ends)])
    return {
        "federated.rel_err": max(errors["as it runs"].values()),
        **{f"federated.{kind}_err": max(errors["as it runs"][name] for name in names) for kind, names in KINDS.items()},
        "federated.one_by_one_err": max(errors["one by one"].values()),
        "federated.batching_err": max(relative_errors(wanted, plain).values()),
        "federated.slope_err": slope_error(found, wanted),
        "federated.sites": len(sites),
        "federated.slices": 2 * slices,
        "federated.parameters": found.layout.parameters,
        "federated.part_mib": statistics.mean(sum(each.values()) for each in left),
    }


Left = dict[str, float]
"""MiB of a part by what they are."""


def both_ways(task: Task, sites: Sequence[Task]) -> tuple[FisherAnalysis, FisherAnalysis, list[Left]]:
    """The merged analysis, that of the whole, and what is in each part."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"site{number}.h5" for number in range(len(sites))]
        for path, own in zip(paths, sites, strict=True):
            write_part(path, work_of(own, "per-sample", 1, None, 2.0**30), "per-sample")
        found = merge_parts(paths, groups="block")
        return found, analyse(task, groups="block"), [contents(path) for path in paths]


def contents(path: Path) -> Left:
    """MiB of the file: gradients of samples, their sums, and all else."""
    with h5py.File(path) as file:
        sizes = {
            what: sum(file[name][each].nbytes for name in SETS for each in names) / MIB
            for what, names in {"gradients of samples": ["rows"], "sums over samples": ["first", "second"]}.items()
        }
    return sizes | {"model and the rest": path.stat().st_size / MIB - sum(sizes.values())}


def draw(errors: dict[str, dict[str, float]], left: list[Left], slices: list[int]) -> None:
    """The error of each kind of figure, and what leaves each site."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        wrong, sent = figure.subplots(1, 2)
        for place, (how, kinds) in enumerate(errors.items()):
            rows = np.arange(len(kinds)) + 0.15 * (2 * place - 1)
            label = f"gradients {how}, at most {max(kinds.values()):.2g}"
            wrong.plot([max(each, EDGE) for each in kinds.values()], rows, "o", label=label, clip_on=False, zorder=3)
        wrong.axvline(GOAL, color="black", ls="--", lw=1, label="goal")
        wrong.set_yticks(range(len(kinds)), list(kinds))
        wrong.set(xscale="log", title="Merged less whole, over the largest", ylim=(-0.5, len(kinds) - 0.5))
        wrong.set(xlim=(EDGE, 1e-5), xlabel="relative difference (at the left edge: none)")
        wrong.legend(fontsize=8, loc="center left")
        base = np.zeros(len(left))
        for what in left[0]:
            sizes = np.array([each[what] for each in left])
            sent.bar(range(len(left)), sizes, bottom=base, label=what)
            base += sizes
        sent.set_xticks(range(len(left)), [f"site {n}\n{count} slices" for n, count in enumerate(slices, 1)])
        sent.set(title="What leaves a site", ylabel="MiB")
        sent.grid(False)
        sent.legend(fontsize=8)
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
