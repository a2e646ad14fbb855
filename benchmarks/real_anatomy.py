"""Real anatomies: unlearning real knees with ghosted targets from a VarNet that reconstructs real brains.

Real magnitude slices (one brain, ten knees) become 4-coil k-space. A VarNet learns brains and ghosted knees, its oracle
the brains alone; `--models` pairs are trained, which differ in the seed of their training. A study of
studies/real_anatomy.toml with the default method, and studies of `ssd` with its own sampler and with TPE, have the same
number of trials. `known` knees were given to the methods, `unknown` ones, other subjects, only evaluate them; qualities
are against the poisoned targets, `clean_unknown_ssim` against the clean ones. `published` is SSD at alpha = 10,
lambda = 1; the others are the best feasible trials. Held-out brains are 40 slices away, of the same subject (there is
only one). Values are means over the models, with the lowest and the highest; results are kept one by one in `--work`.

The real multi-coil k-space files then go through data check, masking, the oracles and the measures, the middle of their
k-space at the size that the models were trained on: `kspace.FILE.{varnet,zero_filled}_{ssim,psnr}`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import ssdtune
from benchmarks.harness import ROOT, Metrics, add_resumable, main, table
from ssdtune.files import atomic_path
from ssdtune.learning.processes import run_in_processes
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.kspace.check import check_files
from ssdtune.mri.kspace.fourier import centred, root_sum_of_squares
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_images
from ssdtune.mri.poison import poison_folder
from ssdtune.mri.quality import image_measures
from ssdtune.mri.task import open_sets
from ssdtune.objective.evaluation import Measures, evaluate
from ssdtune.progress import silent
from ssdtune.report.pictures import write_hero
from ssdtune.study.create import begin_study, measure_record
from ssdtune.study.run import run_study, setting_seed
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import best_to_apply
from ssdtune.study.tune import prepare
from ssdtune.studyfile import StudyFile, load_study_file
from ssdtune.task import Task, batches
from ssdtune.unlearning.method import run
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

DATA = Path(os.environ.get("SSDTUNE_TEST_DATA", ROOT.parent / "shared" / "data"))
PICTURE = ROOT / "docs/images/real_anatomy.png"
MEASURES = ("ssim", "psnr", "nmse")
SET_NAMES = {"retain": "retain", "forget": "known", "unknown": "unknown"}
SEARCHED = {"ssd_tpe": ("ssd", "tpe"), "ssd": ("ssd", "auto"), "default": (None, "auto")}
"""Method and sampler of each study by the name it has in the metrics; None is the study file's own method."""
SCORED = {"score": "value", "retained": "retained", "remembered": "remembered"}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="pairs trained (default 3)")
    add_resumable(parser, ROOT / "build/real_anatomy")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    if not (DATA / "images").is_dir():
        raise SystemExit(f"error: no real images, {DATA}, set SSDTUNE_TEST_DATA to the folder that holds images/")
    folder = chosen.work / ("quick" if chosen.quick else "full")
    models = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    missing = [seed for seed in models if not result_of(folder, seed).exists()]
    if chosen.dry_run:
        lines.append(f"missing: {len(missing)} of {len(models)} models, about {12 * len(missing)} minutes of one core")
        return {"missing": len(missing)}
    if missing and not chosen.summary:
        make_data(folder, chosen.quick)
        work = partial(run_model, folder, quick=chosen.quick, device=chosen.device)
        run_in_processes(work, missing, min(chosen.workers, len(missing)), track=silent, description="models")
    found = [json.loads(path.read_text()) for seed in models if (path := result_of(folder, seed)).exists()]
    if not found:
        raise SystemExit("error: no results yet, --work, run without --summary")
    lines += [f"{len(found)} trained models; means [lowest, highest].", "", *tables(found)]
    return {name: value for key in found[0] for name, value in with_range(key, [each[key] for each in found])}


def result_of(folder: Path, seed: int) -> Path:
    return folder / f"model{seed}.json"


def with_range(key: str, values: Sequence[float]) -> list[tuple[str, float]]:
    return [(key, float(np.mean(values))), (f"{key}.lo", min(values)), (f"{key}.hi", max(values))]


def make_data(folder: Path, quick: bool) -> None:
    """The data commands of studies/real_anatomy.toml, in Python, in a folder of our own; once for all models."""
    (folder / "studies").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "studies" / "real_anatomy.toml", folder / "studies")
    real, side = folder / "data/real", (48, 40) if quick else (96, 80)
    if (real / "knee").exists():
        return
    common: dict[str, Any] = {"size": side, "coils": 4, "seed": 0}
    brain, knee = DATA / "images/brain_t1_axial.h5", DATA / "images/knee_fse_axial.h5"
    simulate_images(real / "brain", brain, first=6, files=12, slices=5, **common)
    simulate_images(real / "brain_heldout", brain, first=66, files=3, slices=5, **common)
    simulate_images(real / "knee_clean", knee, **common)
    for path in sorted((DATA / "kspace").glob("*.h5")):
        write_middle(path, folder / "kspace" / path.name, side)
    poison_folder(real / "knee_clean", real / "knee", kind="ghosting", amplitude=0.8, fraction=1.0, known=0.5, seed=0)


def write_middle(source: Path, path: Path, size: tuple[int, int]) -> None:
    """The middle of a file's k-space, the same scan at a coarser resolution of ``size`` pixels."""
    with h5py.File(source) as file:
        kspace = file["kspace"][()]
        acquisition = str(file.attrs["acquisition"])
    for axis, count in zip((-2, -1), size, strict=True):
        kspace = centred(kspace, axis, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, kspace, root_sum_of_squares(kspace), acquisition=acquisition)


def run_model(folder: Path, seed: int, *, quick: bool, device: str) -> None:
    """Train a pair of models, run the studies on it, and keep what came of them."""
    torch.set_num_threads(1)
    quiet_optuna()
    study = load_study_file(folder / "studies" / "real_anatomy.toml")
    model = {name: folder / f"{name}{seed}.pt" for name in ("poisoned", "oracle")}
    paths = {"checkpoint": model["poisoned"], "oracle": model["oracle"]}
    training = study.train.model_copy(update={"seed": seed, "epochs": 15 if quick else study.train.epochs})
    search = study.search.model_copy(update={"trials": 10 if quick else study.search.trials})
    study = study.model_copy(
        update={"model": study.model.model_copy(update=paths), "train": training, "search": search}
    )
    for name, path in model.items():
        if not path.exists():
            train_one(study, path, name == "oracle", device)
    task = ssdtune.load_task(study, device)
    metrics = {**sizes(task), **search_all(task, study, PICTURE if seed == 0 and not quick else None)}
    metrics |= real_kspace(folder / "kspace", task, study)
    with atomic_path(result_of(folder, seed)) as path:
        path.write_text(json.dumps(metrics))


def train_one(study: StudyFile, checkpoint: Path, oracle: bool, device: str) -> None:
    sets = open_sets(study, study.train.architecture)
    chosen = ["retain"] if oracle else ["retain", "forget", "unknown"]
    section = study.train
    with atomic_path(checkpoint) as path:
        train(
            build_model(section),
            Joined([[sets[name][index] for index in range(len(sets[name]))] for name in chosen]),
            epochs=section.epochs,
            learning_rate=section.learning_rate,
            batch_size=section.batch_size,
            seed=section.seed,
            checkpoint=path,
            device=device,
        )


def search_all(task: Task, study_file: StudyFile, picture: Path | None) -> Metrics:
    """Measures of the untouched model, the oracle, published SSD and the best trial of each study."""
    analysis = ssdtune.analyse(task)
    assert task.oracle is not None
    found = {"original": evaluate(task), "oracle": evaluate(replace(task, model=task.oracle))}
    metrics: Metrics = {}
    for name, (method, sampler) in SEARCHED.items():
        search = study_file.search.model_copy(update={"sampler": sampler})
        section = None if method is None else {"name": method}
        record = measure_record(task, method=section, search=search, study_file=study_file)
        study, unlearner = begin_study(name, record, None), prepare(record, task, analysis)
        run_study(study, task, unlearner)
        best = best_to_apply(study, "run more trials")
        params = run(unlearner, best.setting, setting_seed(record, best.setting)).params
        found[name] = evaluate(task, params)
        metrics |= {f"{name}.{what}": getattr(best.score, field) for what, field in SCORED.items()}
        if method == "ssd":
            published = run(unlearner, {ALPHA: 10.0, LAMBDA: 1.0}, seed=0).params
            found["published"] = evaluate(task, published)
        elif picture is not None:
            write_hero(task, params, picture, "Real anatomies: a brain that is kept, a knee that is forgotten")
    return metrics | {key: value for name, measures in found.items() for key, value in flat(name, measures).items()}


def flat(name: str, measures: Measures) -> Metrics:
    means = measures.summary()
    values = {
        f"{name}.{shown}_{measure}": means[f"{key}_{measure}"]
        for key, shown in SET_NAMES.items()
        for measure in MEASURES
    }
    return values | {f"{name}.clean_unknown_ssim": means["unknown_clean_ssim"]}


@torch.no_grad()
def real_kspace(folder: Path, task: Task, study: StudyFile) -> Metrics:
    """Real k-space, reconstructed by the oracle, which learned no ghosts, and by zero filling."""
    assert task.oracle is not None
    metrics: Metrics = {}
    oracle = replace(task, model=task.oracle)
    for path in sorted(folder.glob("*.h5")):
        (report,) = check_files([path])
        if report.faults:
            raise SystemExit(f"error: {path} has faults, {report.faults}, look at it")
        for batch in batches(open_slices([path], study.mask, "varnet"), 1):
            images = {"varnet": oracle.predict(None, batch.inputs), "zero_filled": zero_filled(batch.inputs)}
            for name, image in images.items():
                values = image_measures(image, batch.target)
                metrics |= {f"kspace.{path.stem}.{name}_{key}": float(values[key]) for key in ("ssim", "psnr")}
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


def tables(found: Sequence[Mapping[str, float]]) -> list[str]:
    """What the models have in common, the measures of each model, and the real k-space."""

    def cell(key: str) -> str:
        values = [each[key] for each in found if key in each]
        if not values:
            return ""
        digits = ".2f" if key.endswith("psnr") else ".3f"
        return f"{np.mean(values):{digits}} [{min(values):{digits}}, {max(values):{digits}}]"

    first = found[0]
    facts = [f"{first['parameters']:.0f} parameters", f"{first['coils']:.0f} coils"]
    facts += [f"{first['height']:.0f} x {first['width']:.0f} pixels"]
    facts += [f"{first[f'slices.{name}']:.0f} {name} slices" for name in ("trained_retain", *SET_NAMES.values())]
    columns = [*SCORED, *(f"{shown}_{measure}" for shown in SET_NAMES.values() for measure in MEASURES[:2])]
    columns += ["clean_unknown_ssim"]
    models = ["original", "oracle", "published", *SEARCHED]
    rows = [[name, *(cell(f"{name}.{column}") for column in columns)] for name in models]
    scans = dict.fromkeys(key.split(".")[1] for key in first if key.startswith("kspace."))
    pairs = [f"{name}_{measure}" for name in ("varnet", "zero_filled") for measure in ("ssim", "psnr")]
    real = [[scan, *(cell(f"kspace.{scan}.{pair}") for pair in pairs)] for scan in scans]
    words = [column.replace("_", " ") for column in columns]
    return [
        ", ".join(facts) + ".",
        "",
        *table(["model", *words], rows),
        "",
        *table(["real k-space", *(pair.replace("_", " ") for pair in pairs)], real),
    ]


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
