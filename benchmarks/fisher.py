"""The Fisher analysis: exact, fast, and within its memory budget.

Speed-ups are ratios of whole times taken in turn in this run, medians of 5 (curvlinops: of 2).
`speedup_vs_curvlinops_n*`: gradients, Gram matrix and eigendecomposition against curvlinops' EFLinearOperator with
scipy's eigsh (k = 20, all samples in one batch, its default tolerance) on a ResNet-9;
`eigen_rel_err` the largest relative difference of those 20 eigenvalues.
`diagonal_speedup`: the published SSD importance loop (batch 1) over this engine's diagonal on a small VarNet of 32
pixels, where vectorising pays; `diagonal_time_ratio_large` this engine's time over the loop's where it does not.
`damage_plane_speedup`: a 64 x 64 plane of the diagonal terms against summing them at each point (from a sample of
points); `damage_plane_30m_s`: sort, sums and plane for 30 M parameters; `damage_growth_exponent` the slope of log time
on log parameters. `memory_over_budget`: largest increase of resident memory of a whole analysis in a fresh process over
its `memory_budget`; `*_spilled` are runs whose gradients do not fit. On a GPU, `cuda.*`: the paper's VarNet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from fisher_inputs import classifier_task, published_importance, varnet_task
from harness import Metrics, main, show, table

import ssdtune
from ssdtune.fisher.damage import DamageSurfaces
from ssdtune.fisher.diagonal import Moments
from ssdtune.fisher.gather import evenly_spaced, gather
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.gram import gram_matrix
from ssdtune.fisher.memory import plan_memory
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.spectrum import spectrum_of_gram
from ssdtune.fisher.sums import DiagonalSums
from ssdtune.fisher.tables import RowTables
from ssdtune.fisher.units import Units
from ssdtune.mri.reconstructor import VarNetSizes
from ssdtune.progress import silent
from ssdtune.task import Batch, Task, batches

K = 20


def measure(options: argparse.Namespace) -> Metrics:
    metrics: Metrics = {}
    for part in (against_curvlinops, against_published_loop, damage_planes, memory):
        metrics |= part(options)
    if options.device.startswith("cuda"):
        metrics |= paper_varnet(options)
    else:
        print("cuda.*: not measured (no GPU)")
    return metrics


def in_turn(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int, theirs_every: int = 1
) -> tuple[float, float]:
    """Median seconds of both in turn; ours runs once more before, theirs only every ``theirs_every`` turns."""
    ours()
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats):
        for run, found, due in zip((ours, theirs), times, (True, turn % theirs_every == 0), strict=True):
            if due:
                started = time.perf_counter()
                run()
                found.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def against_curvlinops(options: argparse.Namespace) -> Metrics:
    from curvlinops import EFLinearOperator
    from scipy.sparse.linalg import eigsh

    metrics, errors = {}, []
    for n in (64, 256):
        task = classifier_task(n, 8, 16, options.seed)
        x = torch.stack([sample[0] for sample in task.forget])
        y = torch.stack([sample[1] for sample in task.forget])
        model = classifier_task(1, 8, 16, options.seed).model.requires_grad_(True)
        found: dict[str, np.ndarray] = {}

        def ours(task: Task = task, n: int = n, found: dict[str, np.ndarray] = found) -> None:
            units = Units(task.forget)
            parameters = sum(p.numel() for p in task.params.values())
            plan = plan_memory(parameters, (n,), 2.0**32)
            engine = GradientEngine(task, plan.workspace)
            gathered = gather(engine, units, evenly_spaced(n, n), plan, plan.kept[0], "forget", silent)
            found["ours"] = spectrum_of_gram(gram_matrix([gathered.rows])).eigenvalues[:K]

        def theirs(
            data: tuple[torch.Tensor, torch.Tensor] = (x, y),
            model: torch.nn.Module = model,
            found: dict[str, np.ndarray] = found,
        ) -> None:
            loss = torch.nn.CrossEntropyLoss()
            operator = EFLinearOperator(model, loss, list(model.parameters()), [data], check_deterministic=False)
            values = eigsh(operator.to_scipy(np.float64), k=K, which="LA", return_eigenvectors=False)
            found["theirs"] = np.sort(values)[::-1]

        mine, other = in_turn(ours, theirs, 5, theirs_every=5 if options.quick else 3)
        errors.append(float(np.max(np.abs(found["ours"] - found["theirs"]) / found["theirs"])))
        metrics[f"speedup_vs_curvlinops_n{n}"] = other / mine
        print(f"n = {n}: {mine:.3f} s against curvlinops' {other:.3f} s, relative error {errors[-1]:.1e}")
    return {"eigen_rel_err": max(errors), **metrics}


def against_published_loop(options: argparse.Namespace) -> Metrics:
    def diagonal(task: Task) -> np.ndarray:
        engine = GradientEngine(task, 2.0**31)
        moments = Moments(engine.layout.parameters)
        for block in engine.stream(Units(task.forget)):
            moments.add(block.rows)
        return moments.finish().diagonal

    metrics, rows = {}, []
    cases = {"diagonal_speedup": (192, 32, VarNetSizes(2, 4, 2, 4, 2)), "large": (48, 128, VarNetSizes(3, 8, 3, 4, 3))}
    for name, (n, size, sizes) in cases.items():
        task = varnet_task(n // (2 if options.quick else 1), size, sizes, options.seed)
        found: dict[str, np.ndarray] = {}
        mine, other = in_turn(
            lambda task=task, found=found: found.update(ours=diagonal(task)),
            lambda task=task, found=found: found.update(theirs=published_importance(task)),
            2 if options.quick else 5,
        )
        error = float(np.max(np.abs(found["ours"] - found["theirs"])) / found["theirs"].max())
        each = 1e3 / len(task.forget)
        rows.append((f"{size} px, n = {len(task.forget)}", show(mine * each), show(other * each), f"{error:.1e}"))
        metrics |= {name: other / mine} if name == "diagonal_speedup" else {"diagonal_time_ratio_large": mine / other}
    print("\n".join(table(("VarNet", "ms a sample", "published loop", "largest difference"), rows)))
    return metrics


def damage_planes(options: argparse.Namespace) -> Metrics:
    rng = np.random.default_rng(options.seed)
    rows, seconds = [], {}
    plane = np.meshgrid(np.geomspace(0.1, 100, 64), np.geomspace(0.03, 100, 64), indexing="ij")
    speedup = 0.0
    for parameters in (100_000, 1_000_000, 10_000_000, 30_000_000):
        theta = rng.standard_normal(parameters, dtype=np.float32)
        f = rng.standard_normal(parameters, dtype=np.float32) ** 2 * np.exp(
            rng.standard_normal(parameters, dtype=np.float32)
        )
        o = rng.standard_normal(parameters, dtype=np.float32) ** 2
        started = time.perf_counter()
        ratios = SortedRatios.of(f, o)
        sums = DiagonalSums.of(ratios, theta, forget=f, retain=o, forget_mean=theta, retain_mean=theta)
        gradients = torch.from_numpy(theta[None])
        rows_of_one = RowTables.of(ratios, theta, [(slice(0, 1), gradients)], 1)
        surfaces = DamageSurfaces(sums, *[rows_of_one] * 4)
        terms = surfaces(*plane)
        seconds[parameters] = time.perf_counter() - started
        rows.append((f"{parameters:,}", show(seconds[parameters])))
        if parameters == 1_000_000:
            speedup = direct_plane_seconds(theta, f, o, plane, terms.forget_diagonal) / seconds[parameters]
    print("\n".join(table(("parameters", "sort, sums, tables, plane in s"), rows)))
    large = [p for p in seconds if p >= 1_000_000]
    slope = float(np.polyfit(np.log(large), np.log([seconds[p] for p in large]), 1)[0])
    return {
        "damage_plane_speedup": speedup,
        "damage_plane_30m_s": seconds[30_000_000],
        "damage_growth_exponent": slope,
    }


def direct_plane_seconds(
    theta: np.ndarray, f: np.ndarray, o: np.ndarray, plane: list[np.ndarray], expected: np.ndarray
) -> float:
    """Seconds that summing the same terms at every point takes, from 16 points of the plane; checks their values."""
    points = np.random.default_rng(0).choice(plane[0].size, 16, replace=False)
    ratio = f / o
    spent = 0.0
    for point in points:
        alpha, lam = plane[0].flat[point], plane[1].flat[point]
        started = time.perf_counter()
        delta = theta * np.where(ratio > alpha, np.minimum(lam / ratio, 1) - 1, 0)
        square = delta.astype(np.float64) ** 2
        found = 0.5 * (f @ square)
        _ = (0.5 * (o @ square), theta @ delta, theta @ delta, np.sqrt(square.sum()), np.mean(ratio > alpha))
        spent += time.perf_counter() - started
        assert abs(found - expected.flat[point]) <= 1e-4 * max(found, 1e-6), (found, expected.flat[point])
    return spent / len(points) * plane[0].size


CASES = {  # n, image size, (cascades, channels, pools), budget in GiB; the last ones do not fit
    "n16": (16, 48, (2, 6, 2), 1.0),
    "n128": (128, 48, (2, 6, 2), 1.0),
    "n512": (512, 48, (2, 6, 2), 1.0),
    "parameters_0.5M": (32, 64, (4, 8, 3), 1.0),
    "parameters_8M": (8, 64, (4, 18, 4), 3.0),
    "parameters_30M": (2, 64, (12, 18, 4), 6.0),
    "size_96": (32, 96, (2, 6, 2), 1.0),
    "size_160": (32, 160, (2, 6, 2), 1.5),
    "n128_spilled": (128, 48, (4, 8, 3), 0.3),
    "parameters_8M_spilled": (24, 64, (4, 18, 4), 1.5),
}


def memory(options: argparse.Namespace) -> Metrics:
    names = [name for name in CASES if not options.quick or name in ("n16", "n128", "size_96", "n128_spilled")]
    rows, shares = [], []
    for name in names:
        done = subprocess.run(
            [sys.executable, __file__, "--case", name, "--seed", str(options.seed)], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"error: case {name} failed, {done.stderr.strip().splitlines()[-1]}")
        found = json.loads(done.stdout.splitlines()[-1])
        shares.append(found["increase"] / found["budget"])
        rows.append(
            (name, *(show(found[key]) for key in ("parameters", "seconds", "increase", "budget")), show(shares[-1]))
        )
    columns = ("case", "parameters", "seconds", "increase in MiB", "budget in MiB", "share")
    print("\n".join(table(columns, rows)))
    return {"memory_over_budget": max(shares)}


def run_case(name: str, seed: int) -> None:
    """One analysis in this process; prints its seconds and the increase of resident memory while it ran."""
    n, size, (cascades, channels, pools), budget = CASES[name]
    task = varnet_task(n, size, VarNetSizes(cascades, channels, pools, 4, 2), seed)
    parameters = sum(p.numel() for p in task.params.values())
    task.predict(None, next(iter(first_batches(task))).inputs)  # libraries loaded, buffers made
    assert task.identity
    before, started = resident(), time.perf_counter()
    peak, stop = [before], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    analysis = ssdtune.analyse(task, memory_budget=budget * 2**30)
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    assert analysis.features()
    found = {"parameters": parameters, "seconds": seconds, "increase": peak[0] - before, "budget": budget * 1024}
    print(json.dumps(found))


def first_batches(task: Task) -> Iterator[Batch]:
    return batches(task.forget, 1)


def resident() -> float:
    """Resident memory of this process in MiB, without file-backed pages (a spilled file is the page cache's)."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1024


def paper_varnet(options: argparse.Namespace) -> Metrics:
    n = 16 if options.quick else 128
    task = varnet_task(n, 256, VarNetSizes(), options.seed, device=options.device)
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    ssdtune.analyse(task, memory_budget=60 * 2**30)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    square = torch.randn(8192, 8192, device=options.device)
    rate_started = time.perf_counter()
    for _ in range(10):
        square @ square
    torch.cuda.synchronize()
    rate = 10 * 2 * 8192**3 / (time.perf_counter() - rate_started)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        batch = next(iter(first_batches(task)))
        inputs = tuple(value.to(options.device) for value in batch.inputs)
        params = {name: value.clone().requires_grad_() for name, value in task.params.items()}
        task.predict(params, inputs).mean().backward()
    return {
        "cuda.analyse_s": seconds,
        "cuda.slices_per_s": 2 * n / seconds,
        "cuda.peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "cuda.matrix_rate_share": counter.get_total_flops() * 2 * n / seconds / rate,
    }


def case_options() -> argparse.Namespace | None:
    """Options of a child process; None in the process that measures."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--case")
    parser.add_argument("--seed", type=int, default=0)
    options, _ = parser.parse_known_args()
    return options if options.case else None


if __name__ == "__main__":
    if chosen := case_options():
        run_case(chosen.case, chosen.seed)
    else:
        main(__doc__ or "", measure)
