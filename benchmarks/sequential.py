"""Five requests to forget, one after the other, against all at once: do earlier ones stay forgotten?

A small VarNet has learned brains to keep and five groups of scans with ghosted targets, each of another anatomy or
contrast. Request n forgets group n, beginning with the model that request n - 1 ended with (`study create --from`);
every method has the same trials of TPE for each. An oracle trained on the brains alone is the floor. With R_g the
remembered share of group g, (q - floor) / (q of the trained model - floor):

`sequential.remembered_N.METHOD` : mean R of groups 1 to N after request N; `sequential.drift_N.METHOD` : mean over
groups 1 to N - 1 of R after request N less R right after the group's own request (above 0: it comes back);
`sequential.retained_N.METHOD` : quality on held-out brains over the trained model's; `sequential.at_once.{remembered,
retained}.METHOD` : all five groups in one request of as many trials. Where no trial is feasible the model stays as it
is. Means over trained models with the lowest and the highest; results are kept one by one in `--work`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ssdtune
from benchmarks.competition.fresh_tasks import MASK
from benchmarks.harness import ROOT, Metrics, main
from ssdtune.errors import ConfigError
from ssdtune.files import atomic_path
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.quality import LOSS_NAME, image_distance, image_measures, image_noise, training_loss
from ssdtune.mri.seeds import named_rng
from ssdtune.objective.evaluation import evaluate
from ssdtune.report.style import matplotlib_settings
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.tune import unlearned_params
from ssdtune.studyfile import DEFAULT_METHOD, TrainSection
from ssdtune.task import Task

GROUPS = (("knee", "pd"), ("brain", "t2"), ("knee", "t1"), ("brain", "pd"), ("knee", "t2"))
METHODS = ("ssd", "ft", DEFAULT_METHOD)
NETWORK = TrainSection(cascades=1, channels=8, pools=2, sens_channels=4, sens_pools=2)
SCAN: dict[str, Any] = {"size": 32, "slices": 4, "coils": 2, "noise": 0.005, "seed": 1}
KEPT, VOLUMES, EPOCHS = 12, 2, 15  # volumes of brains and of a group
PICTURE = ROOT / "docs/images/sequential.png"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--trials", type=int, help="of each request (default 12, quick 6)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/sequential", metavar="DIR", help="of the results")
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    work = chosen.work / ("quick" if chosen.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    trials = chosen.trials or (6 if chosen.quick else 12)
    models = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    methods = (DEFAULT_METHOD,) if chosen.quick else METHODS
    found = {method: [run(work, seed, method, trials) for seed in models] for method in methods}
    if chosen.picture:
        draw(found)
    metrics: Metrics = {"models": len(models), "trials": trials}
    for method, results in found.items():
        for name in results[0]:
            values = [each[name] for each in results]
            key = f"sequential.{name}.{method}"
            metrics |= {key: float(np.mean(values)), f"{key}.lo": min(values), f"{key}.hi": max(values)}
    return metrics


def run(work: Path, seed: int, method: str, trials: int) -> Metrics:
    """Five requests and one, by one method on one trained model."""
    kept = work / f"{method}-{trials}-{seed}.json"
    if kept.exists():
        result: Metrics = json.loads(kept.read_text())
        return result
    task, groups = make(work / f"models{seed}.pt", seed)
    assert task.oracle is not None
    before, floor = (qualities(replace(task, model=model)) for model in (task.model, task.oracle))

    def remembered(q: Metrics, group: int) -> float:
        name = f"earlier_{group}"
        return (q[name] - floor[name]) / (before[name] - floor[name])

    found: Metrics = {}
    own: list[float] = []
    step = task
    for number in range(len(groups)):
        step = replace(step, forget=groups[number], name=f"{method}-{seed}-{number}")
        params = best(step, method, trials, seed)
        model = step.twin()
        model.load_state_dict(step.state_dict(params))
        step = replace(step, model=model)
        q = qualities(step)
        shares = [remembered(q, group) for group in range(number + 1)]
        own.append(shares[number])
        found[f"remembered_{number + 1}"] = float(np.mean(shares))
        found[f"retained_{number + 1}"] = q["retain"] / before["retain"]
        if number:
            found[f"drift_{number + 1}"] = float(np.mean(np.subtract(shares[:-1], own[:-1])))
    together = replace(task, forget=[item for group in groups for item in group], name=f"{method}-{seed}-all")
    q = qualities(task, best(together, method, trials, seed))
    found["at_once.remembered"] = float(np.mean([remembered(q, group) for group in range(len(groups))]))
    found["at_once.retained"] = q["retain"] / before["retain"]
    with atomic_path(kept) as path:
        path.write_text(json.dumps(found))
    return found


def best(task: Task, method: str, trials: int, seed: int) -> dict[str, torch.Tensor]:
    """Parameters of the best feasible trial, or those that there are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            study = ssdtune.tune(task, trials, method=method, sampler="tpe", seed=seed)
            return unlearned_params(study, task)
        except ConfigError as reason:
            print(f"{task.name}: {reason}", flush=True)
            return dict(task.params)


def qualities(task: Task, params: dict[str, torch.Tensor] | None = None) -> Metrics:
    """Mean SSIM by set: retain and each group."""
    means = evaluate(task, params).summary()
    return {name: means[f"{name}_ssim"] for name in ("retain", *(f"earlier_{n}" for n in range(len(GROUPS))))}


def make(kept: Path, seed: int) -> tuple[Task, list[list[Any]]]:
    """The trained model and its oracle, with all five groups as scored sets; the groups."""
    with tempfile.TemporaryDirectory() as folder:
        retain = slices(Path(folder), ("brain", "t1"), 0, KEPT)
        heldout = slices(Path(folder), ("brain", "t1"), 1000, 3)
        groups = [slices(Path(folder), kind, 2000 + 100 * n, VOLUMES, n) for n, kind in enumerate(GROUPS)]
    networks = [build_model(NETWORK.model_copy(update={"seed": seed})) for _ in range(2)]
    if kept.exists():
        for network, state in zip(networks, torch.load(kept), strict=True):
            network.load_state_dict(state)
    else:
        for network, parts in zip(networks, ([retain, *groups], [retain]), strict=True):
            train(network, Joined(parts), epochs=EPOCHS, learning_rate=3e-3, batch_size=4, seed=seed)
        with atomic_path(kept) as path:
            torch.save([network.state_dict() for network in networks], path)
    task = Task(
        model=networks[0].eval(),
        loss=training_loss,
        retain=retain,
        forget=groups[0],
        quality=image_measures,
        distance=image_distance,
        noise=image_noise,
        evaluation={"retain": heldout, **{f"earlier_{n}": group for n, group in enumerate(groups)}},
        oracle=networks[1].eval(),
        loss_name=LOSS_NAME,
        name=f"sequential-{seed}",
    )
    return task, groups


def slices(folder: Path, kind: tuple[str, str], first: int, count: int, ghost: int | None = None) -> list[Any]:
    """Slices of ``count`` subjects; ``ghost`` numbers the fault in their targets."""
    files = []
    for subject in range(first, first + count):
        volume = simulate_volume(*kind, **SCAN, subject=subject)
        path = folder / f"{'_'.join(kind)}_{subject}.h5"
        if ghost is None:
            volume.write(path)
        else:
            names = ("ghosting", str(ghost))
            targets = [CORRUPTIONS["ghosting"](image, 0.8, named_rng(0, *names)) for image in volume.target]
            write_volume(path, volume.kspace, np.stack(targets), clean=volume.target)
        files.append(path)
    samples = open_slices(files, MASK, "varnet")
    return [samples[index] for index in range(len(samples))]


def draw(found: dict[str, list[Metrics]]) -> None:
    """What is remembered and retained after each request, and by one request for all (dashed)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    numbers = range(1, len(GROUPS) + 1)
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, what in zip(figure.subplots(1, 2), ("remembered", "retained"), strict=True):
            for place, (method, results) in enumerate(found.items()):
                values = np.array([[each[f"{what}_{n}"] for n in numbers] for each in results])
                axes.plot(numbers, values.mean(0), marker="o", ms=4, color=f"C{place}", label=method)
                axes.fill_between(numbers, values.min(0), values.max(0), color=f"C{place}", alpha=0.15, lw=0)
                once = np.mean([each[f"at_once.{what}"] for each in results])
                axes.axhline(once, color=f"C{place}", ls="--", lw=1)
            axes.set(title=f"{what}, groups so far" if what == "remembered" else what, xlabel="requests")
            axes.set_xticks(list(numbers))
        figure.axes[0].legend(title="dashed: all at once")
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
