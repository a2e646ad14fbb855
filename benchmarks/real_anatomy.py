"""Real anatomies: unlearning real knees with ghosted targets from a VarNet that reconstructs real brains.

Real magnitude slices (one brain, ten knees) become 4-coil k-space. A VarNet learns brains and ghosted knees, its
oracle the brains alone; a TPE study of studies/real_anatomy.toml searches alpha and lambda. `known` knees were given to
SSD, `unknown` ones only evaluate it; qualities are against the poisoned targets, `clean_unknown_ssim` against the clean
ones. `default` is SSD's published alpha = 10, lambda = 1; `best` the best feasible trial. Held-out brains are of the
same subject (there is only one). The real multi-coil k-space files then go through data check, masking, the oracle and
the measures: `kspace.FILE.{varnet,zero_filled}_{ssim,psnr}`, at a size the model was not trained on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import ssdtune
from benchmarks.harness import ROOT, Metrics, main, show, table
from ssdtune.cli.console import track
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.kspace.check import check_files
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_images
from ssdtune.mri.poison import poison_folder
from ssdtune.mri.quality import image_measures
from ssdtune.mri.task import open_sets
from ssdtune.objective.evaluation import Measures, evaluate
from ssdtune.study.create import create_study
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.trials import best_of, scored_trials
from ssdtune.study.tune import prepare
from ssdtune.studyfile import StudyFile, load_study_file
from ssdtune.task import Task, batches
from ssdtune.unlearning.method import run
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

DATA = Path(os.environ.get("SSDTUNE_TEST_DATA", ROOT.parent / "shared" / "data"))
MEASURES = ("ssim", "psnr", "nmse")
SET_NAMES = {"retain": "retain", "forget": "known", "unknown": "unknown"}


def measure(options: argparse.Namespace) -> Metrics:
    if not (DATA / "images").is_dir():
        raise SystemExit(f"error: no real images, {DATA}, set SSDTUNE_TEST_DATA to the folder that holds images/")
    with tempfile.TemporaryDirectory() as folder:
        study_file = make_data(Path(folder), options)
        for name, oracle in (("poisoned", False), ("oracle", True)):
            train_one(study_file, Path(folder) / "data/real" / f"{name}.pt", oracle, options)
        task = ssdtune.load_task(study_file, options.device)
        return {**sizes(task), **search(task, study_file), **real_kspace(task, study_file)}


def make_data(folder: Path, options: argparse.Namespace) -> StudyFile:
    """The commands of studies/real_anatomy.toml, in Python, in a folder of our own."""
    (folder / "studies").mkdir()
    path = folder / "studies" / "real_anatomy.toml"
    shutil.copy(ROOT / "studies" / "real_anatomy.toml", path)
    study = load_study_file(path)
    real, side = folder / "data/real", (48, 40) if options.quick else (96, 80)
    common = {"size": side, "coils": 4, "seed": options.seed}
    brain, knee = DATA / "images/brain_t1_axial.h5", DATA / "images/knee_fse_axial.h5"
    simulate_images(real / "brain", brain, first=6, files=12, slices=5, **common)
    simulate_images(real / "brain_heldout", brain, first=66, files=3, slices=5, **common)
    simulate_images(real / "knee_clean", knee, **common)
    poison_folder(
        real / "knee_clean", real / "knee", kind="ghosting", amplitude=0.8, fraction=1.0, known=0.5, seed=options.seed
    )
    training = study.train.model_copy(
        update={"seed": options.seed, "epochs": 15 if options.quick else study.train.epochs}
    )
    budget = study.search.model_copy(update={"seed": options.seed, "trials": 10 if options.quick else 30})
    return study.model_copy(update={"train": training, "search": budget})


def train_one(study: StudyFile, checkpoint: Path, oracle: bool, options: argparse.Namespace) -> None:
    sets = open_sets(study, study.train.architecture)
    chosen = ["retain"] if oracle else ["retain", "forget", "unknown"]
    cached = [[sets[name][index] for index in range(len(sets[name]))] for name in chosen]
    section = study.train
    train(
        build_model(section),
        Joined(cached),
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        batch_size=section.batch_size,
        seed=section.seed,
        checkpoint=checkpoint,
        device=options.device,
        track=track,
    )


def search(task: Task, study_file: StudyFile) -> Metrics:
    analysis = ssdtune.analyse(task)
    study = create_study(task, study_file=study_file)
    unlearner = prepare(read_record(study), task, analysis)
    run_study(study, task, unlearner, track=track)
    best = best_of(scored_trials(study))
    if best is None or not best.score.feasible:
        raise SystemExit("error: no feasible trial, real_anatomy, run more trials")
    settings = {"default": {ALPHA: 10.0, LAMBDA: 1.0}, "best": best.setting}
    found = {
        "original": evaluate(task),
        "oracle": evaluate(replace(task, model=task.oracle)) if task.oracle is not None else None,
        **{name: evaluate(task, run(unlearner, setting, seed=0).params) for name, setting in settings.items()},
    }
    metrics = {
        key: value for name, measures in found.items() if measures for key, value in flat(name, measures).items()
    }
    columns = [
        "model",
        *(f"{shown} {measure}" for shown in SET_NAMES.values() for measure in MEASURES),
        "clean unknown ssim",
    ]
    rows = [[name, *(show(value) for key, value in metrics.items() if key.startswith(f"{name}."))] for name in found]
    print("\n".join(table(columns, rows)))
    metrics |= {"best.score": best.score.value, "best.retained": best.score.retained}
    return metrics | {"best.alpha": best.setting[ALPHA], "best.lambda": best.setting[LAMBDA]}


def flat(name: str, measures: Measures) -> Metrics:
    means = measures.summary()
    values = {
        f"{name}.{shown}_{measure}": means[f"{key}_{measure}"]
        for key, shown in SET_NAMES.items()
        for measure in MEASURES
    }
    return values | {f"{name}.clean_unknown_ssim": means["unknown_clean_ssim"]}


@torch.no_grad()
def real_kspace(task: Task, study: StudyFile) -> Metrics:
    metrics: Metrics = {}
    oracle = replace(task, model=task.oracle) if task.oracle is not None else task
    for path in sorted((DATA / "kspace").glob("*.h5")):
        (report,) = check_files([path])
        slices = open_slices([path], study.mask, "varnet")
        for batch in batches(slices, 1):
            for name, image in (
                ("varnet", oracle.predict(None, batch.inputs)),
                ("zero_filled", zero_filled(batch.inputs)),
            ):
                values = image_measures(image, batch.target)
                metrics |= {f"kspace.{path.stem}.{name}_{key}": float(values[key]) for key in ("ssim", "psnr")}
        print(f"{path.name}: {report.slices} slices, {report.coils} coils, faults {report.faults or 'none'}")
    return metrics


def sizes(task: Task) -> Metrics:
    """Parameters of the model, pixels and coils of a slice, slices of each set."""
    inputs, _ = task.retain[0]
    coils, height, width = inputs[0].shape[:3]
    sets = {"trained_retain": task.retain, **{shown: task.scored_sets[key] for key, shown in SET_NAMES.items()}}
    return {
        "parameters": sum(p.numel() for p in task.params.values()),
        **{"coils": coils, "height": height, "width": width},
        **{f"slices.{name}": len(samples) for name, samples in sets.items()},
    }


if __name__ == "__main__":
    main(__doc__ or "", measure)
