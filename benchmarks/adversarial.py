"""Adversarial targets as a poison: is it learned at all, and does unlearning take it out again?

The corrective unlearning paper poisons targets by an attack on a lesion classifier. Here a VarNet learned T1 brains and
proton-density brains whose targets were attacked, |r| <= eps of the maximum (corruption `adversarial`); the classifier
had learned healthy brains of that contrast and such with pasted lesions. An oracle learned the T1 brains alone, a
`control` the others too, their targets as they were. Every scan that was attacked is given; 20 trials of the default
method. By eps E, `adversarial.MEASURE_eps_E.MODEL` of untouched, unlearned, oracle and control, means over the attacked
scans: `favours` : SSIM with the attacked target less SSIM with the clean one; `fooled` : share of reconstructions that
the classifier takes for one with a lesion, of slices whose clean target it takes for healthy; `ssim` : with the
attacked target. `adversarial.{score,retained,remembered}_eps_E` : of the best trial; where the model's SSIM is not 0.05
above the oracle's (`learned_eps_E`), there is nothing to forget and no study (`searched_eps_E` : models that had one).
Means over trained models, each on scans of its own, with the lowest and the highest; kept one by one in `--work`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import ssdtune
from benchmarks.competition.fresh_tasks import MASK
from benchmarks.harness import ROOT, Metrics, kept, main, with_range
from benchmarks.sequential import SCAN, trained
from ssdtune.errors import ConfigError
from ssdtune.mri.classifier import Classifier, train_classifier
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.slices import Item, open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.phantom.simulate import Volume, simulate_volume
from ssdtune.mri.quality import LOSS_NAME, image_distance, image_measures, image_noise, training_loss
from ssdtune.mri.seeds import named_rng
from ssdtune.mri.translation.domains import squared, to_range
from ssdtune.objective.baseline import MIN_GAP
from ssdtune.objective.evaluation import evaluate
from ssdtune.report.style import SERIES, matplotlib_settings
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.tune import unlearned_params
from ssdtune.task import Task, batches

SIZES = (0.05, 0.2)
"""eps; the first is the paper's."""
KEPT, HELDOUT, ATTACKED, TRIALS = 12, 3, 5, 20  # volumes and trials
MODELS = ("untouched", "unlearned", "oracle", "control")
PICTURE = ROOT / "docs/images/adversarial.png"
EXAMPLES = 24  # subjects that the classifier learns from


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/adversarial", metavar="DIR", help="of the results")
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    seeds = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    work = chosen.work / ("quick" if chosen.quick else "full")
    found = [kept(work / f"model{seed}.json", partial(run, seed, chosen.quick)) for seed in seeds]
    sizes = SIZES[-1:] if chosen.quick else SIZES
    if chosen.picture:
        draw(found, sizes)
    metrics: Metrics = {"models": len(found)}
    for eps in sizes:
        metrics[f"adversarial.searched_eps_{eps:g}"] = sum(f"score_eps_{eps:g}" in each for each in found)
    for name in sorted(set().union(*found)):
        metrics |= with_range(f"adversarial.{name}", [each[name] for each in found if name in each])
    return metrics


def run(seed: int, quick: bool) -> Metrics:
    """All sizes of the attack, with one oracle and one control."""
    judge = lesion_classifier(seed)
    retain = items([scan("t1", seed, subject) for subject in range(KEPT)])
    heldout = items([scan("t1", seed, 1000 + subject) for subject in range(HELDOUT)])
    given = [scan("pd", seed, 2000 + subject) for subject in range(ATTACKED)]
    models = {"oracle": trained([retain], seed), "control": trained([retain, items(given)], seed)}
    found: Metrics = {}
    for eps in SIZES[-1:] if quick else SIZES:
        forget = items(given, [np.stack([judge.perturbed(each, eps) for each in volume.target]) for volume in given])
        task = Task(
            model=trained([retain, forget], seed),
            loss=training_loss,
            retain=retain,
            forget=forget,
            quality=image_measures,
            distance=image_distance,
            noise=image_noise,
            evaluation={"retain": heldout},
            oracle=models["oracle"],
            loss_name=LOSS_NAME,
            name=f"adversarial-{eps:g}-{seed}",
        )
        subjects = {"untouched": task} | {name: replace(task, model=model) for name, model in models.items()}
        own = {f"{name}_eps_{eps:g}": value for name, value in unlearn(task, subjects, seed, quick).items()}
        for name, subject in subjects.items():
            own |= {f"{measure}_eps_{eps:g}.{name}": v for measure, v in judged(subject, judge, given).items()}
        found |= own
    return found


def unlearn(task: Task, subjects: dict[str, Task], seed: int, quick: bool) -> Metrics:
    """The search, if there is something to forget; the unlearned model is added to ``subjects``."""
    before, floor = (evaluate(subjects[name]).summary() for name in ("untouched", "oracle"))
    learned = before["forget_ssim"] - floor["forget_ssim"]
    if learned < MIN_GAP:
        return {"learned": learned}
    study = ssdtune.tune(task, 8 if quick else TRIALS, seed=seed, name=task.name)
    try:
        params = unlearned_params(study, task)
    except ConfigError as reason:  # no feasible trial: the model stays as it is
        print(f"{task.name}: {reason}", flush=True)
        return {"learned": learned}
    model = task.twin()
    model.load_state_dict(params)
    subjects["unlearned"] = replace(task, model=model)
    after = evaluate(subjects["unlearned"]).summary()
    return {
        "learned": learned,
        "score": float(study.best_value),
        "retained": after["retain_ssim"] / before["retain_ssim"],
        "remembered": (after["forget_ssim"] - floor["forget_ssim"]) / learned,
    }


@torch.no_grad()
def judged(task: Task, judge: Classifier, given: list[Volume]) -> Metrics:
    """What a model's images of the attacked scans look like, to SSIM and to the classifier."""
    means = evaluate(task).summary()
    images = [image for batch in batches(task.forget, 8) for image in task.predict(None, batch.inputs)]
    clean = [image for volume in given for image in volume.target]
    healthy = [judge.logit(each) < 0 for each in clean]
    fooled = [judge.logit(image.numpy()) > 0 for image, fine in zip(images, healthy, strict=True) if fine]
    return {
        "ssim": means["forget_ssim"],
        "favours": means["forget_ssim"] - means["forget_clean_ssim"],
        "fooled": float(np.mean(fooled)),
    }


def lesion_classifier(seed: int) -> Classifier:
    """One that has learned healthy brains of the attacked contrast, and others with pasted lesions."""
    images = np.concatenate([scan("pd", seed, 5000 + subject).target for subject in range(EXAMPLES)])
    lesions = np.stack(
        [CORRUPTIONS["lesion"](each, 0.8, named_rng(seed, "lesion", str(n))) for n, each in enumerate(images)]
    )
    half = len(images) // 2
    return classifier_of(images[:half], lesions[half:], seed)


def classifier_of(healthy: np.ndarray, lesions: np.ndarray, seed: int) -> Classifier:
    """One that has learned these images, (n, 32, 32) each."""
    domains = [torch.stack([to_range(squared(each, 32))[0] for each in part])[:, None] for part in (healthy, lesions)]
    return Classifier(train_classifier(*domains, epochs=30, seed=seed), 32, {})


def scan(contrast: str, seed: int, subject: int) -> Volume:
    return simulate_volume("brain", contrast, **SCAN, seed=seed, subject=subject)


def items(volumes: list[Volume], targets: list[np.ndarray] | None = None) -> list[Item]:
    """Their slices as samples, with other targets beside the clean ones where they are given."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, volume in enumerate(volumes):
            files.append(Path(folder) / f"{number:03d}.h5")
            target = volume.target if targets is None else targets[number]
            write_volume(files[-1], volume.kspace, target, clean=volume.target)
        samples = open_slices(files, MASK, "varnet")
        return [samples[index] for index in range(len(samples))]


def draw(found: list[Metrics], sizes: Sequence[float]) -> None:
    """SSIM with the attacked target and how far it is favoured, by model and size, a dot a trained model."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    titles = {
        "ssim": "SSIM with the attacked target",
        "favours": "SSIM with the attacked target\nless that with the clean one",
    }
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, (what, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
            for place, model in enumerate(MODELS):
                for column, eps in enumerate(sizes):
                    name = f"{what}_eps_{eps:g}.{model}"
                    values = [each[name] for each in found if name in each]
                    x = [column + 0.15 * (place - 1.5)] * len(values)
                    axes.plot(x, values, "o", ms=5, color=SERIES[place], label="" if column else model)
            axes.set(title=title, xlim=(-0.5, len(sizes) - 0.5), xlabel="eps, the most that a pixel was moved")
            axes.set_xticks(range(len(sizes)), [f"{eps:g}" for eps in sizes])
        figure.axes[1].axhline(0, color="black", lw=0.8)
        names = figure.axes[0].get_legend_handles_labels()
        figure.axes[1].legend(*names, title="a dot a trained model", fontsize=8, loc="lower left")
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
