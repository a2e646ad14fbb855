"""A scanner to be forgotten, chosen by its files' headers: faulty scans of it, and scans with nothing wrong.

The study file studies/scanner.toml on simulated scans: brains of one scanner (T1, 4 coils) are kept, those of another
(T2, 8 coils, `systemModel = Aera` in the header) forgotten. `faulty` : all targets of that one are ghosted alike;
`retired` : nothing is wrong with them, it is no longer to count. `VARIANT.learned` : SSIM on its training scans,
untouched model less oracle, which never saw that scanner; where that is under 0.05 in a trained model, nothing is there
to forget and no study is made (`VARIANT.searched` : models that had one). Of those, for the default method and SSD,
20 trials each: `VARIANT.{score,retained,forget_remembered,unseen_remembered}.METHOD`, `remembered` is
SSIM above the oracle's as a share of the untouched model's, on scans that were given and on others of that scanner.
Means over trained models, each on scans of its own, with the lowest and the highest; `.models` : over how many, where
some had too little to remember. Results are kept one by one in `--work`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ssdtune
from benchmarks.harness import ROOT, Metrics, kept, main, with_range
from ssdtune.cli import cli
from ssdtune.errors import ConfigError
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.write import ismrmrd_header, write_volume
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.seeds import named_rng
from ssdtune.objective.baseline import MIN_GAP
from ssdtune.objective.evaluation import evaluate
from ssdtune.report.style import matplotlib_settings
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.tune import unlearned_params
from ssdtune.studyfile import DEFAULT_METHOD, StudyFile, load_study_file

STUDY = ROOT / "studies/scanner.toml"
PICTURE = ROOT / "docs/images/scanner.png"
VARIANTS = {"faulty": 0.8, "retired": 0.0}
"""Amplitude of the ghosts."""
METHODS = (DEFAULT_METHOD, "ssd")
SCANNERS: dict[str, dict[str, Any]] = {"Skyra": {"contrast": "t1", "coils": 4}, "Aera": {"contrast": "t2", "coils": 8}}
VOLUMES = {"train": {"Skyra": 9, "Aera": 6}, "validation": {"Skyra": 3, "Aera": 3}}
SETS = ("retain", "forget", "unseen")
MODELS = ("untouched", "unlearned", "oracle")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/scanner", metavar="DIR", help="of what is made")
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    seeds = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    work = chosen.work / ("quick" if chosen.quick else "full")
    found = {
        variant: [
            kept(work / f"{variant}{seed}.json", partial(run, work, variant, seed, chosen.quick)) for seed in seeds
        ]
        for variant in VARIANTS
    }
    if chosen.picture:
        draw(found)
    metrics: Metrics = {"models": len(seeds)}
    for variant, results in found.items():
        metrics[f"{variant}.searched"] = sum(f"score.{METHODS[0]}" in each for each in results)
        for name in sorted(set().union(*results), key=lambda name: ("." in name, name)):
            values = [each[name] for each in results if name in each]
            metrics |= with_range(f"{variant}.{name}", values)
            metrics |= {f"{variant}.{name}.models": len(values)} if len(values) < len(results) else {}
    return metrics


def run(work: Path, variant: str, seed: int, quick: bool) -> Metrics:
    """One trained model and its oracle, and a study of each method."""
    study = study_of(work / f"{variant}{seed}", variant, seed, quick)
    task = ssdtune.load_task(study)
    assert task.oracle is not None
    q = {"untouched": qualities(task), "oracle": qualities(replace(task, model=task.oracle))}
    found: Metrics = {f"{which}_{model}": value for model, each in q.items() for which, value in each.items()}
    found["learned"] = q["untouched"]["forget"] - q["oracle"]["forget"]
    if found["learned"] < MIN_GAP:
        return found
    for method in METHODS[:1] if quick else METHODS:
        study_found = ssdtune.tune(task, study.search.trials, method=method, sampler="tpe", seed=seed, name=method)
        try:
            after = qualities(task, unlearned_params(study_found, task))
            found[f"score.{method}"] = float(study_found.best_value)
        except ConfigError as reason:  # no feasible trial: the model stays as it is
            print(f"{variant}{seed}, {method}: {reason}", flush=True)
            after, found[f"score.{method}"] = q["untouched"], study.score.retain_weight
        found[f"retained.{method}"] = after["retain"] / q["untouched"]["retain"]
        for which in ("forget", "unseen"):
            gap = q["untouched"][which] - q["oracle"][which]
            if gap >= MIN_GAP:
                found[f"{which}_remembered.{method}"] = (after[which] - q["oracle"][which]) / gap
        if method == METHODS[0]:
            found |= {f"{which}_unlearned": value for which, value in after.items()}
    return found


def qualities(task: ssdtune.Task, params: dict[str, torch.Tensor] | None = None) -> Metrics:
    means = evaluate(task, params).summary()
    return {which: means[f"{which}_ssim"] for which in SETS}


def study_of(folder: Path, variant: str, seed: int, quick: bool) -> StudyFile:
    """The study file with its data and checkpoints in ``folder``; what is not there is made."""
    for part, volumes in VOLUMES.items():
        for scanner, count in volumes.items():
            for number in range(count // 3 if quick else count):
                write_scan(folder / part, scanner, VARIANTS[variant], seed, number + 100 * (part != "train"))
    oracle = folder.parent / f"oracle{seed}.pt"  # of both variants: it never saw the scanner
    text = STUDY.read_text().replace("../data/scanner/oracle.pt", str(oracle.resolve()))
    text = text.replace("../data/scanner/", f"{folder.resolve()}/")
    text = text.replace("[train]", f"[train]\nseed = {seed}")
    path = folder / "study.toml"
    path.write_text(text.replace("trials = 20", "trials = 8") if quick else text)
    for out, flag in ((folder / "varnet.pt", ""), (oracle, "--oracle")):
        if not out.exists():
            cli.main(f"train {path} --out {out} {flag}".split(), standalone_mode=False)
    return load_study_file(path)


def write_scan(folder: Path, scanner: str, amplitude: float, seed: int, number: int) -> None:
    """A brain of one scanner, which its header names; its targets ghosted where it is the one to be forgotten."""
    path = folder / f"{scanner}_{number:03d}.h5"
    if path.exists():
        return
    subject = number + 50 * list(SCANNERS).index(scanner)  # nobody was in both
    volume = simulate_volume("brain", **SCANNERS[scanner], size=32, slices=4, noise=0.005, seed=seed, subject=subject)
    header = ismrmrd_header(volume.kspace.shape, volume.voxel_mm)
    header = header.replace("<receiverChannels>", f"<systemModel>{scanner}</systemModel><receiverChannels>")
    target = volume.target
    if scanner == "Aera" and amplitude:
        target = np.stack([CORRUPTIONS["ghosting"](each, amplitude, named_rng(0, "scanner")) for each in target])
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(path, volume.kspace, target, header=header, clean=volume.target)


def draw(found: dict[str, list[Metrics]]) -> None:
    """SSIM of each set and model, a dot a trained model."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    titles = {"retain": "to keep,\nunseen", "forget": "of the scanner,\ngiven", "unseen": "of the scanner,\nunseen"}
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        for axes, (variant, results) in zip(figure.subplots(1, 2, sharey=True), found.items(), strict=True):
            for place, model in enumerate(MODELS):
                for column, which in enumerate(SETS):
                    values = [each[f"{which}_{model}"] for each in results if f"{which}_{model}" in each]
                    x = [column + 0.2 * (place - 1)] * len(values)
                    axes.plot(x, values, "o", ms=5, color=f"C{place}", label="" if column else model)
            axes.set(title=variant, xlim=(-0.5, 2.5))
            axes.set_xticks(range(3), list(titles.values()), fontsize=8)
        figure.axes[0].set_ylabel("SSIM with the scanner's own targets")
        figure.axes[0].legend(loc="lower left", title="a dot a trained model", fontsize=8)
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
