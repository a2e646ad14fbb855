"""Five requests to forget, one after the other, against all at once: do earlier ones stay forgotten?

A small VarNet has learned brains to keep and five groups of scans with ghosted targets, each of another anatomy or
contrast. Request n forgets group n, beginning with the model that request n - 1 ended with (as `study create --from`
does); each has the same trials of TPE at w = 0.2 and min_retained 0.95 of the model that it begins with. One oracle,
trained on the brains alone, is the floor of every request: a model that still has the later groups would be a milder
one. Where a request finds nothing to forget or no feasible trial, the model stays as it is. R_g is what is remembered
of group g, (q - floor) / (q of the trained model - floor), not clipped, on the scans that were given:

`sequential.remembered_N.METHOD` : mean R of groups 1 to N after request N; `sequential.drift_N.METHOD` : mean over
groups 1 to N - 1 of R after request N less R right after the group's own request (above 0: it comes back);
`sequential.ahead_N.METHOD` : mean R of the groups whose request is still to come; `sequential.retained_N.METHOD` :
quality on held-out brains over the trained model's; `sequential.at_once_{remembered,retained}.METHOD` : all five groups
in one request, of as many trials as each of the five; `sequential.{unchanged,at_once_unchanged}.METHOD` : requests that
left the model as it was; `gap` : the least q of the trained model - floor of a group. Means over trained models, each
on scans of its own, with the lowest and the highest; results are kept one by one in `--work`.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ssdtune
from benchmarks.competition.fresh_tasks import MASK
from benchmarks.harness import ROOT, Metrics, kept, main
from ssdtune.errors import ConfigError
from ssdtune.files import atomic_path
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.slices import Item, open_slices
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
NAMES = tuple(f"earlier_{n}" for n in range(1, len(GROUPS) + 1))
METHODS = ("ssd", "ft", DEFAULT_METHOD)
NETWORK = TrainSection(cascades=1, channels=8, pools=2, sens_channels=4, sens_pools=2)
SCAN: dict[str, Any] = {"size": 32, "slices": 4, "coils": 2, "noise": 0.005}
KEPT, VOLUMES, EPOCHS = 12, 2, 15  # volumes of brains and of a group
PICTURE = ROOT / "docs/images/sequential.png"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--trials", type=int, help="of each request (default 8, quick 6)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/sequential", metavar="DIR", help="of the results")
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    work = chosen.work / ("quick" if chosen.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    trials = chosen.trials or (6 if chosen.quick else 8)
    models = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    methods = (DEFAULT_METHOD,) if chosen.quick else METHODS
    found = {
        method: [kept(work / f"{method}-{trials}-{s}.json", partial(run, work, s, method, trials)) for s in models]
        for method in methods
    }
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
    task, groups = make(work / f"models{seed}.pt", seed)
    assert task.oracle is not None
    before, floor = (qualities(replace(task, model=model)) for model in (task.model, task.oracle))
    gaps = [before[name] - floor[name] for name in NAMES]

    def remembered(q: Metrics) -> list[float]:
        return [(q[name] - floor[name]) / gap for name, gap in zip(NAMES, gaps, strict=True)]

    shares, kept_quality, unchanged = [], [], 0
    step = task
    for number, group in enumerate(groups):
        step = replace(step, forget=group, name=f"{method}-{seed}-{number + 1}")
        params = best(step, method, trials, seed)
        if params is None:
            unchanged += 1
        else:
            model = step.twin()
            model.load_state_dict(params)
            step = replace(step, model=model)
        q = qualities(step)
        shares.append(remembered(q))
        kept_quality.append(q["retain"] / before["retain"])
    found = drifts(shares) | {f"retained_{n}": value for n, value in enumerate(kept_quality, 1)}
    together = replace(task, forget=[item for group in groups for item in group], name=f"{method}-{seed}-all")
    params = best(together, method, trials, seed)
    q = qualities(task, params)
    found |= {"at_once_remembered": float(np.mean(remembered(q))), "at_once_retained": q["retain"] / before["retain"]}
    found |= {"unchanged": unchanged, "at_once_unchanged": int(params is None), "gap": min(gaps)}
    return found


def drifts(shares: Sequence[Sequence[float]]) -> Metrics:
    """What is remembered, has come back and lies ahead, of R by (request, group), each row after that request."""
    r = np.array(shares)
    found: Metrics = {}
    for n in range(1, len(r) + 1):
        found[f"remembered_{n}"] = float(r[n - 1, :n].mean())
        if n > 1:
            found[f"drift_{n}"] = float((r[n - 1] - r.diagonal())[: n - 1].mean())
        if n < len(r):
            found[f"ahead_{n}"] = float(r[n - 1, n:].mean())
    return found


def best(task: Task, method: str, trials: int, seed: int) -> dict[str, torch.Tensor] | None:
    """The state dict of the best feasible trial; None, and why, where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            study = ssdtune.tune(task, trials, method=method, sampler="tpe", seed=seed, name=task.name)
            return unlearned_params(study, task)
        except ConfigError as reason:
            print(f"{task.name}: {reason}", flush=True)
            return None


def qualities(task: Task, params: dict[str, torch.Tensor] | None = None) -> Metrics:
    """Mean SSIM by set: retain and each group."""
    means = evaluate(task, params).summary()
    return {name: means[f"{name}_ssim"] for name in ("retain", *NAMES)}


def make(file: Path, seed: int) -> tuple[Task, list[list[Item]]]:
    """The trained model and its oracle, with all five groups as scored sets; the groups."""
    with tempfile.TemporaryDirectory() as folder:
        retain = slices(Path(folder), ("brain", "t1"), seed, 0, KEPT)
        heldout = slices(Path(folder), ("brain", "t1"), seed, 1000, 3)
        groups = [slices(Path(folder), kind, seed, 2000 + 100 * n, VOLUMES, n) for n, kind in enumerate(GROUPS)]
    networks = [build_model(NETWORK.model_copy(update={"seed": seed})) for _ in range(2)]
    if file.exists():
        for network, state in zip(networks, torch.load(file), strict=True):
            network.load_state_dict(state)
    else:
        for network, parts in zip(networks, ([retain, *groups], [retain]), strict=True):
            train(network, Joined(parts), epochs=EPOCHS, learning_rate=3e-3, batch_size=4, seed=seed)
        with atomic_path(file) as path:
            torch.save([network.state_dict() for network in networks], path)
    task = Task(
        model=networks[0].eval(),
        loss=training_loss,
        retain=retain,
        forget=groups[0],
        quality=image_measures,
        distance=image_distance,
        noise=image_noise,
        evaluation={"retain": heldout, **dict(zip(NAMES, groups, strict=True))},
        oracle=networks[1].eval(),
        loss_name=LOSS_NAME,
        name=f"sequential-{seed}",
    )
    return task, groups


def slices(
    folder: Path, kind: tuple[str, str], seed: int, first: int, count: int, ghost: int | None = None
) -> list[Item]:
    """Slices of ``count`` subjects, drawn by ``seed``; ``ghost`` numbers the fault in their targets."""
    files = []
    for subject in range(first, first + count):
        volume = simulate_volume(*kind, **SCAN, seed=seed, subject=subject)
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
    """What is remembered, has come back and is retained after each request, and by one request for all (dashed)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    titles = {"remembered": "remembered of the groups so far", "drift": "come back since", "retained": "retained"}
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(10.5, 3.4), layout="constrained")
        for axes, (what, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
            numbers = range(2 if what == "drift" else 1, len(GROUPS) + 1)
            for place, (method, results) in enumerate(found.items()):
                values = np.array([[each[f"{what}_{n}"] for n in numbers] for each in results])
                axes.plot(numbers, values.mean(0), marker="o", ms=4, color=f"C{place}", label=method)
                axes.fill_between(numbers, values.min(0), values.max(0), color=f"C{place}", alpha=0.15, lw=0)
                if what != "drift":
                    once = np.mean([each[f"at_once_{what}"] for each in results])
                    axes.axhline(once, color=f"C{place}", ls="--", lw=1)
            axes.set(title=title, xlabel="requests")
            axes.set_xticks(range(1, len(GROUPS) + 1))
        figure.axes[0].legend(title="dashed: all at once")
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
