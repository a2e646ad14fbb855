"""Worst-case perturbations of the untouched, the unlearned and the oracle model: does unlearning make it more robust?

The simulated task of `benchmarks.papers` after the corrective unlearning paper (brains, some of another contrast with
ghosted targets), trained models of different seeds, each unlearned by the best trial of the default method. Every model
is attacked by what is worst for it, on four slices of held-out brains, in 20 steps (`ssdtune.mri.attack`).
`attack.MODEL.ssim_eps_E` : l2 in k-space, E of its norm; `attack.MODEL.ssim_linf_E` : E / 255 of the maximum in the
image; means over trained models with the lowest and the highest. `attack.robustness_ratio` : SSIM that the untouched
model loses over what the unlearned one loses, mean over sizes, geometric mean over trained models with the 95 %
interval of Student's t on its logarithm; over 1 means that unlearning made it more robust. `attack.change_ratio` : the
same of the relative l2 change of the images; `_linf` of the other norm. `attack.classifier.accuracy_eps_E` : share of
unseen simulated brains that a lesion classifier tells right under attack, mean over training seeds; E of the maximum.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t

import ssdtune
from benchmarks.adversarial import classifier_of
from benchmarks.harness import ROOT, Metrics, main, with_range
from benchmarks.papers.tasks import CASES, SEED, make_task
from ssdtune.files import atomic_path
from ssdtune.mri.attack import LADDERS, Norm, attack, chosen_slices
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.seeds import named_rng
from ssdtune.report.attack_figures import Bands, draw_flip, draw_quality, draw_slice
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.tune import unlearned_params

MODELS = ("untouched", "unlearned", "oracle")
NORMS: tuple[Norm, ...] = ("l2", "linf")
FLIPS = (0.0, 0.01, 0.02, 0.05, 0.1)
IMAGES = ROOT / "docs/images"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/attack", metavar="DIR", help="of what is made")
    parser.add_argument("--picture", action="store_true", help="draw those of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    work = chosen.work / ("quick" if chosen.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    seeds = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    found = [run_model(work, seed, chosen.quick, chosen.picture and seed == chosen.seed) for seed in seeds]
    if chosen.picture:
        draw_bands(found)
    flips = [flip(seed, chosen.quick, chosen.picture and seed == chosen.seed) for seed in seeds]
    metrics: Metrics = {"models": len(found)}
    for model in MODELS:
        for norm in NORMS:
            for place, eps in enumerate((0.0, *LADDERS[norm])):
                values = [each[f"{model}.{norm}.ssim"][place] for each in found]
                size = f"eps_{eps:g}" if norm == "l2" else f"linf_{round(255 * eps)}"
                metrics |= with_range(f"attack.{model}.ssim_{size}", values)
    for norm in NORMS:
        end = "" if norm == "l2" else "_linf"
        metrics |= ratio(f"attack.robustness_ratio{end}", [lost(each, norm) for each in found])
        metrics |= ratio(f"attack.change_ratio{end}", [changed(each, norm) for each in found])
    for place, eps in enumerate(FLIPS):
        metrics |= with_range(f"attack.classifier.accuracy_eps_{eps:g}", [each[place] for each in flips])
    return metrics


Found = dict[str, list[float]]
"""SSIM and change at each size, 0 first, by ``MODEL.NORM.MEASURE``."""


def run_model(work: Path, seed: int, quick: bool, picture: bool) -> Found:
    kept = work / f"model{seed}.json"
    if kept.exists() and not picture:
        result: Found = json.loads(kept.read_text())
        return result
    (case,) = (case for case in CASES if case.key == f"{SEED}-simulated")
    task = make_task(case, seed, work / f"models{seed}.pt")
    unlearned = work / f"unlearned{seed}.pt"
    if not unlearned.exists():
        study = ssdtune.tune(task, 8 if quick else 20, seed=seed, name=f"attacked-{seed}")
        torch.save(unlearned_params(study, task), unlearned)
    assert task.oracle is not None
    params = {"untouched": None, "unlearned": torch.load(unlearned), "oracle": dict(task.oracle.named_parameters())}
    found: Found = {}
    images = {}
    samples = chosen_slices(task.scored_sets["test"], 2 if quick else 4)
    for name in MODELS:
        for norm in NORMS:
            for eps in (0.0, *LADDERS[norm]):
                result_of = attack(task, params[name], samples, norm, eps, steps=10 if quick else 20)
                for measure_of in ("ssim", "change"):
                    value = float(result_of.measures[measure_of].mean())
                    found.setdefault(f"{name}.{norm}.{measure_of}", []).append(value)
                if (norm, eps) == ("l2", LADDERS["l2"][2]):
                    images[name] = (result_of.images[0][0], result_of.images[1][0])
    if picture:
        target = samples[0][1]["image"].numpy()
        draw_slice(IMAGES / "attack_slice.png", images, target, "A held-out brain, l2 of 4 % of its k-space")
    with atomic_path(kept) as path:
        path.write_text(json.dumps(found))
    return found


def draw_bands(found: list[Found]) -> None:
    panels: dict[str, tuple[np.ndarray, Bands]] = {}
    titles: dict[Norm, str] = {"l2": "l2 in k-space, of its norm", "linf": "l-infinity in the image, of the maximum"}
    for norm, title in titles.items():
        values = {model: np.array([each[f"{model}.{norm}.ssim"] for each in found]) for model in MODELS}
        bands = {model: (each.mean(0), each.min(0), each.max(0)) for model, each in values.items()}
        panels[title] = (np.array((0.0, *LADDERS[norm])), bands)
    draw_quality(IMAGES / "attack_quality.png", panels)


def flip(seed: int, quick: bool, picture: bool) -> list[float]:
    """Share of unseen brains, half of them with a lesion, that a classifier tells right at each of ``FLIPS``."""
    subjects = 10 if quick else 40
    volumes = [
        simulate_volume(size=32, slices=4, coils=1, seed=seed, subject=subject).target for subject in range(subjects)
    ]
    images = np.concatenate(volumes)
    lesions = np.stack(
        [CORRUPTIONS["lesion"](image, 0.8, named_rng(seed, "flip", str(n))) for n, image in enumerate(images)]
    )
    half, unseen = len(images) // 2, len(images) // 10
    found = classifier_of(images[: half - unseen], lesions[half:-unseen], seed)
    kept = [(image, False) for image in images[half - unseen : half]] + [(image, True) for image in lesions[-unseen:]]
    right = []
    for eps in FLIPS:
        attacked = [(found.perturbed(image, eps), image, bad) for image, bad in kept]
        right.append(float(np.mean([(found.logit(other) > 0) == bad for other, _, bad in attacked])))
        flipped = [(image, other) for other, image, bad in attacked if not bad and found.logit(other) > 0]
        if picture and eps and flipped:
            image, other = flipped[0]
            draw_flip(IMAGES / "attack_flip.png", image, other, eps, [found.logit(image), found.logit(other)])
            picture = False
    return right


def lost(found: Found, norm: Norm) -> float:
    """SSIM lost by the untouched model over that lost by the unlearned one, means over sizes."""
    losses = {model: np.array(found[f"{model}.{norm}.ssim"]) for model in MODELS[:2]}
    untouched, unlearned = (float((each[0] - each[1:]).mean()) for each in losses.values())
    return untouched / unlearned


def changed(found: Found, norm: Norm) -> float:
    untouched, unlearned = (float(np.mean(found[f"{model}.{norm}.change"][1:])) for model in MODELS[:2])
    return untouched / unlearned


def ratio(name: str, values: list[float]) -> Metrics:
    """Geometric mean; with several values the 95 % interval of Student's t on the logarithm."""
    logs = np.log(values)
    mean = float(logs.mean())
    if len(values) < 2:
        return {name: math.exp(mean)}
    half = float(t.ppf(0.975, len(values) - 1) * logs.std(ddof=1) / math.sqrt(len(values)))
    return {name: math.exp(mean), f"{name}.lo": math.exp(mean - half), f"{name}.hi": math.exp(mean + half)}


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
