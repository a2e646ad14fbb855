"""CIFAR-10's landscape of SSD: the score over threshold and multiplier, two searches on it, and a corrective setting.

A narrow ResNet-9 is to forget a class of CIFAR-10 (the data at hand were decoded from JPEG, and a part is trained on).
Every point of a grid over alpha and lambda is evaluated in full, as in the corrective unlearning paper's figure: retain
accuracy, forget accuracy, and s at w = 0.2 without a bound (calibrated, as everywhere here). Two searches go over the
same plane, TPE and the structure-aware one, without the published setting as their first trial;
`cifar.trials_to_peak.SAMPLER` : trials until s is within 0.02 of the best known of SSD, means over three search seeds,
one over the budget where none is. `cifar.peak.METHOD` : best s, of other methods with as many trials;
`cifar.peak.grid` of the grid, `cifar.near_peak` : its share within 0.02 of the peak, `cifar.collapsed` : its share
where retain accuracy is under half of the untouched model's; `cifar.{retain,forget}_accuracy` : the untouched model's.
Corrective setting (Goel et al., TMLR 2024, section 5), scaled to the images at hand: a white 3x3 patch at the bottom
right of 5 % of the training images, labelled as class 0; `cifar.patch.{corrected,kept}.KNOWN.METHOD` : accuracy on
unseen patched images against their true class, and on clean ones, when KNOWN per cent of the patched training images
are given, min_retained 0.9, and `cifar.patch.score` : s of the best trial; `before` and `oracle` are without unlearning
and without the patched images. Two remedies for the default method: `spectral-batches` : ten steps in place of five, on
batches of 32 of all samples in place of 4 of 32; `ssd-repair` : another method. Means over trained models with the
lowest and the highest; results are kept one by one in `--work`.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import ssdtune
from benchmarks.competition.fresh_tasks import DATA
from benchmarks.harness import ROOT, Metrics, kept, main, with_range
from ssdtune.errors import ConfigError
from ssdtune.learning.making import make_vision_task
from ssdtune.learning.recipes import VisionRecipe
from ssdtune.objective.evaluator import Evaluator
from ssdtune.report.style import matplotlib_settings
from ssdtune.study.create import create_study, measure_record
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.tune import prepare, unlearned_params
from ssdtune.studyfile import DEFAULT_METHOD, ScoreSection, SearchSection
from ssdtune.task import Task
from ssdtune.unlearning.method import run
from ssdtune.unlearning.ssd import ALPHA, LAMBDA
from ssdtune.vision.forgetting import Images, accuracy, load_images
from ssdtune.vision.resnet9 import ResNet9
from ssdtune.vision.train import train_classifier

SAMPLERS = ("tpe", "spectrum")
OTHERS = ("ft", "ng", DEFAULT_METHOD)
NEAR = 0.02
WEIGHT = 0.2
SCORE = ScoreSection(retain_weight=WEIGHT, min_retained=0.0)
KNOWN = (10, 50, 100)
SETS = {"corrected": "corrected", "kept": "retain"}
REMEDIES = {
    f"{DEFAULT_METHOD}-batches": {
        "name": DEFAULT_METHOD, "batch_size": 32, "retain_slices": "all", "forget_slices": "all", "steps": 10,
    },
    "ssd-repair": {"name": "ssd-repair"},
}  # fmt: skip
"""For the default, which leaves the patch: more of the samples in its later gradients, and another method."""
PICTURE = ROOT / "docs/images/cifar_landscape.png"
WIDTH, EPOCHS, IMAGES, PATCHED = 8, 8, 2000, 0.05
SEARCHES = 3  # seeds


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--trials", type=int, help="of each search (default 20, quick 10)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/cifar", metavar="DIR", help="of the results")
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    warnings.simplefilter("ignore")
    work = chosen.work / ("quick" if chosen.quick else "full")
    images = load_images(DATA / "cifar10_10k.npz")
    trials = chosen.trials or (10 if chosen.quick else 20)
    models = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    results = []
    for seed in models:
        plane = partial(landscape, images, seed, trials, chosen.quick)
        patched = partial(corrective, images, seed, trials // 2, chosen.quick)
        mended = partial(remedies, images, seed, trials // 2, chosen.quick)
        makers = {"landscape": plane, "patch": patched, "remedies": mended}
        results.append([kept(work / f"{name}{seed}.json", make) for name, make in makers.items()])
    if chosen.picture:
        draw([each[0] for each in results])
    metrics: Metrics = {"models": len(models), "trials": trials}
    for place in range(3):
        for name in results[0][place]["metrics"]:
            metrics |= with_range(name, [each[place]["metrics"][name] for each in results])
    return metrics


def landscape(images: Images, seed: int, trials: int, quick: bool) -> dict[str, Any]:
    """The grid, the searches' paths and everybody's best on one trained model."""
    recipe = VisionRecipe(
        number=9000 + seed, dataset="cifar10", forgetting="class", label=3, train_size=IMAGES,
        forget_share=0.1, known_share=1.0, width=WIDTH, epochs=EPOCHS,
    )  # fmt: skip
    task = make_vision_task(recipe, images)
    analysis = ssdtune.analyse(task)
    record = measure_record(task, method={"name": "ssd"}, score=SCORE)
    unlearner, evaluator, rule = prepare(record, task, analysis), Evaluator(task), record.rule
    sides = 5 if quick else 10
    alphas, lambdas = np.geomspace(0.3, 100, sides), np.geomspace(0.05, 20, sides)
    grid = np.zeros((3, sides, sides))
    for row, alpha in enumerate(alphas):
        for column, lam in enumerate(lambdas):
            means = evaluator.measures(run(unlearner, {ALPHA: alpha, LAMBDA: lam}, seed=0).params).summary()
            q = means["retain_quality"], means["forget_quality"]
            grid[:, row, column] = (*q, rule(*q).value)
    paths: dict[str, list[Any]] = {}
    best = {"grid": float(grid[2].max())}
    for sampler in SAMPLERS:
        paths[sampler] = []
        for search_seed in range(1 if quick else SEARCHES):
            study = search(task, "ssd", sampler, trials, search_seed, analysis)
            done = [trial for trial in study.trials if trial.value is not None]
            paths[sampler].append([[t.params[ALPHA], t.params[LAMBDA], t.value] for t in done])
        best[sampler] = max(value for path in paths[sampler] for *_, value in path)
    for method in OTHERS:
        best[method] = float(search(task, method, "tpe", trials, 0, analysis).best_value)
    peak = max(best[name] for name in ("grid", *SAMPLERS))
    metrics = {f"cifar.peak.{name}": value for name, value in best.items()}
    metrics |= {"cifar.retain_accuracy": rule.q_retain, "cifar.forget_accuracy": rule.q_forget}
    metrics["cifar.near_peak"] = float((grid[2] >= peak - NEAR).mean())
    metrics["cifar.collapsed"] = float((grid[0] < 0.5 * rule.q_retain).mean())
    for sampler in SAMPLERS:
        metrics[f"cifar.trials_to_peak.{sampler}"] = float(
            np.mean([first_near([value for *_, value in path], peak, trials) for path in paths[sampler]])
        )
    return {
        "metrics": metrics,
        "alphas": alphas.tolist(),
        "lambdas": lambdas.tolist(),
        "grid": grid.tolist(),
        "paths": {sampler: each[0] for sampler, each in paths.items()},
        "best": best,
    }


def first_near(values: list[float], peak: float, budget: int) -> int:
    """The number of the first trial within ``NEAR`` of the peak, from 1; one over the budget if none is."""
    return next((number for number, value in enumerate(values, 1) if value >= peak - NEAR), budget + 1)


def search(task: Task, method: str, sampler: str, trials: int, seed: int, analysis: Any) -> optuna.Study:
    """A study without the method's published start."""
    study = create_study(
        task, method={"name": method}, name=f"{method}-{sampler}-{seed}", score=SCORE,
        search=SearchSection.model_validate({"sampler": sampler, "trials": trials, "seed": seed}),
    )  # fmt: skip
    run_study(study, task, prepare(read_record(study), task, analysis))
    return study


def corrective(images: Images, seed: int, trials: int, quick: bool) -> dict[str, Any]:
    """Accuracy on unseen patched images before and after, with a part of the patched training images known."""
    task = patched_task(images, seed)
    assert task.oracle is not None
    metrics = patch_metrics("before", task) | patch_metrics("oracle", replace(task, model=task.oracle))
    return {
        "metrics": metrics
        | searched(task, {name: name for name in ("ssd", DEFAULT_METHOD)}, KNOWN, seed, trials, quick)
    }


def remedies(images: Images, seed: int, trials: int, quick: bool) -> dict[str, Any]:
    """The same of ``REMEDIES``, with the least and the most known."""
    return {"metrics": searched(patched_task(images, seed), REMEDIES, KNOWN[::2], seed, trials, quick)}


def patched_task(images: Images, seed: int) -> Task:
    """All patched training images are given; scored sets are unseen clean and patched images."""
    order = np.random.default_rng([9000, seed]).permutation(len(images.y_train))[:IMAGES]
    x, y = images.x_train[order], images.y_train[order].clone()
    patched = np.flatnonzero(y.numpy() != 0)[: round(PATCHED * IMAGES)]
    clean = np.setdiff1d(np.arange(IMAGES), patched)
    poison = TensorDataset(patch(x[patched]), torch.zeros(len(patched), dtype=torch.long))
    retain = TensorDataset(x[clean], y[clean])
    test = images.y_test != 0
    sets = {
        "retain": TensorDataset(images.x_test[:500], images.y_test[:500]),
        "corrected": TensorDataset(patch(images.x_test[test])[:500], images.y_test[test][:500]),
    }
    trained = []
    for parts in ([retain, poison], [retain]):
        torch.manual_seed(seed)
        trained.append(train_classifier(ResNet9(width=WIDTH), parts, epochs=EPOCHS, seed=seed))
    model, oracle = trained
    few = TensorDataset(*(each[:300] for each in retain.tensors))
    return Task(
        model, cross_entropy, few, poison, accuracy, sets, oracle,
        forget_share=len(patched) / IMAGES, name=f"patch-{seed}",
    )  # fmt: skip


def searched(
    task: Task, methods: Mapping[str, Any], shares: Sequence[int], seed: int, trials: int, quick: bool
) -> Metrics:
    """What the best trial of each method gives, with ``shares`` per cent of the patched images known."""
    metrics: Metrics = {}
    poison = task.forget
    assert isinstance(poison, TensorDataset)
    for known in (100,) if quick else shares:
        given = max(1, len(poison) * known // 100)
        some = TensorDataset(*(each[:given] for each in poison.tensors))
        step = replace(task, forget=some, known_share=given / len(poison))
        for label, method in methods.items():
            study = ssdtune.tune(step, trials, method=method, sampler="tpe", seed=seed, min_retained=0.9)
            try:
                params, score = unlearned_params(study, step), float(study.best_value)
            except ConfigError as reason:  # the model stays as it is
                print(f"patch, {known} % known, {label}: {reason}", flush=True)
                params, score = None, WEIGHT
            metrics |= patch_metrics(f"{known}.{label}", step, params) | {f"cifar.patch.score.{known}.{label}": score}
    return metrics


def patch_metrics(how: str, task: Task, params: Any = None) -> Metrics:
    means = Evaluator(task).measures(task.params if params is None else params).summary()
    return {f"cifar.patch.{name}.{how}": means[f"{which}_quality"] for name, which in SETS.items()}


def patch(x: torch.Tensor) -> torch.Tensor:
    """White 3x3 pixels at the bottom right."""
    found = x.clone()
    found[..., -3:, -3:] = 1
    return found


def draw(results: list[dict[str, Any]]) -> None:
    """Retain and forget accuracy and s over the plane of one model; on the last the searches' paths and other methods'
    best, with the range over all models in words."""
    found = results[0]
    import matplotlib as mpl
    from matplotlib.figure import Figure

    alphas, lambdas, grid = (np.array(found[key]) for key in ("alphas", "lambdas", "grid"))
    ends = {method: [each["best"][method] for each in results] for method in OTHERS}
    ranges = {method: f" (of all {min(each):.2f} to {max(each):.2f})" for method, each in ends.items()}
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        figure.suptitle(f"The first of {len(results)} trained models", fontsize=10)
        titles = ("retain accuracy", "forget accuracy", f"s at w = {WEIGHT}")
        for axes, title, values in zip(figure.subplots(1, 3), titles, grid, strict=True):
            shown = axes.pcolormesh(lambdas, alphas, values, shading="nearest", vmin=0, vmax=1)
            axes.set(xscale="log", yscale="log", xlabel="lambda", ylabel="alpha", title=title)
            axes.set(xlim=(0.03, 300), ylim=(0.1, 300))
            axes.grid(False)
            figure.colorbar(shown, ax=axes)
        for sampler, colour in zip(SAMPLERS, ("#d55e00", "#cc00cc"), strict=True):
            path = np.array(found["paths"][sampler])
            axes.plot(path[:, 1], path[:, 0], ".-", color=colour, lw=0.7, ms=5, label=sampler)
            near = first_near(path[:, 2].tolist(), grid[2].max(), len(path)) - 1
            if near < len(path):
                axes.plot(*path[near, 1::-1], "*", color=colour, mec="black", ms=14)
        for method, style in zip(OTHERS, ("--", ":", "-."), strict=True):
            level = found["best"][method]
            if grid[2].min() < level < grid[2].max():
                axes.contour(lambdas, alphas, grid[2], [level], colors="black", linestyles=style, linewidths=1.2)
            axes.plot([], [], color="black", ls=style, label=f"{method}: {level:.3f}{ranges[method]}")
        axes.legend(fontsize=7, labelcolor="black", facecolor="#bbbbbb", loc="upper right", title="star: near the peak")
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
