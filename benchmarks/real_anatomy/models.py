"""The data, a pair of trained models, and what studies make of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ssdtune
from benchmarks.harness import ROOT, Metrics, kept
from benchmarks.real_anatomy.scans import adapted, real_kspace, write_alike, write_middle
from ssdtune.cli import cli
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.phantom.simulate import simulate_images
from ssdtune.mri.poison import poison_folder
from ssdtune.objective.evaluation import Measures, evaluate
from ssdtune.report.pictures import write_hero
from ssdtune.study.create import begin_study, measure_record
from ssdtune.study.run import run_study, setting_seed
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import best_to_apply
from ssdtune.study.tune import prepare
from ssdtune.studyfile import StudyFile, load_study_file
from ssdtune.task import Task
from ssdtune.unlearning.method import run
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

DATA = Path(os.environ.get("SSDTUNE_TEST_DATA", ROOT.parent / "shared" / "data"))
PICTURE = ROOT / "docs/images/real_anatomy.png"
MEASURES = ("ssim", "psnr", "nmse")
SET_NAMES = {"retain": "retain", "forget": "known", "unknown": "unknown"}
DEFAULT = "default"
SEARCHED = {"ssd_tpe": ("ssd", "tpe"), "ssd": ("ssd", "auto"), DEFAULT: (None, "auto"), "default_tpe": (None, "tpe")}
"""Method and sampler of each study by the name it has in the metrics; None is the study file's own method."""
SCORED = {"score": "value", "retained": "retained", "remembered": "remembered"}


def make_data(folder: Path, quick: bool) -> None:
    """The simulations of studies/real_anatomy.toml, in Python, in a folder of our own; once for all models."""
    real, side = folder / "data/real", (48, 40) if quick else (96, 80)
    common: dict[str, Any] = {"size": side, "coils": 4, "seed": 0, "overwrite": True}
    if not (folder / "kspace").exists():  # the last one to be made
        brain, knee = DATA / "images/brain_t1_axial.h5", DATA / "images/knee_fse_axial.h5"
        simulate_images(real / "brain", brain, first=6, files=12, slices=5, **common)
        simulate_images(real / "brain_heldout", brain, first=66, files=3, slices=5, **common)
        simulate_images(real / "knee_clean", knee, **common)
        new = folder / "kspace.new"
        for path in sorted((DATA / "kspace").glob("*.h5")):
            write_middle(path, new / path.name, side)
        new.rename(folder / "kspace")
    if not (folder / "alike").exists():
        write_alike(folder / "alike.new", DATA / "images/brain_t1_axial.h5", side)
        (folder / "alike.new").rename(folder / "alike")


def study_of(folder: Path, seed: int, quick: bool) -> Path:
    """The study file of a trained model: its seed, and which half of the knees is known, drawn with it."""
    knees = folder / f"data/real/knee{seed}"
    if not (knees / "manifest.json").exists():
        shutil.rmtree(knees, ignore_errors=True)
        clean = folder / "data/real/knee_clean"
        poison_folder(clean, knees, kind="ghosting", amplitude=0.8, fraction=1.0, known=0.5, seed=seed)
    text = (ROOT / "studies/real_anatomy.toml").read_text()
    text = text.replace("data/real/knee/", f"data/real/knee{seed}/").replace("[train]", f"[train]\nseed = {seed}")
    for name in ("poisoned", "oracle"):
        text = text.replace(f"data/real/{name}.pt", f"{name}{seed}.pt")
    if quick:
        text = text.replace("epochs = 40", "epochs = 15").replace("trials = 30", "trials = 10")
    path = folder / f"studies/real_anatomy{seed}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def results_of(folder: Path, seed: int) -> tuple[Path, Path]:
    """Where the results of a trained model are kept, and those of the network that was adapted to real scans."""
    return folder / f"model{seed}.json", folder / f"adapted{seed}.json"


def keep_model(folder: Path, seed: int, *, quick: bool, device: str) -> None:
    """What came of a trained model, in its files."""
    torch.set_num_threads(1)
    model, further = results_of(folder, seed)
    kept(model, partial(run_model, folder, seed, quick, device))
    kept(further, partial(run_adapted, folder, seed, quick, device))


def run_adapted(folder: Path, seed: int, quick: bool, device: str) -> Metrics:
    """Real k-space by the oracle after more epochs on scans like the real ones."""
    study = load_study_file(study_of(folder, seed, quick))
    model = adapted(folder / f"oracle{seed}.pt", folder / "alike", study, device)
    return real_kspace(folder / "kspace", {"adapted": lambda inputs: model(*inputs)}, study)


def run_model(folder: Path, seed: int, quick: bool, device: str) -> Metrics:
    """Train a pair of models as `ssdtune train` does, run the studies on it; what came of them."""
    quiet_optuna()
    path = study_of(folder, seed, quick)
    for name, flag in (("poisoned", ""), ("oracle", "--oracle")):
        if not (out := folder / f"{name}{seed}.pt").exists():
            cli.main(f"train {path} --out {out} --device {device} {flag}".split(), standalone_mode=False)
    study = load_study_file(path)
    task = ssdtune.load_task(study, device)
    assert task.oracle is not None
    found, params = search_all(task, study)
    if seed == 0 and not quick:
        write_hero(task, params, PICTURE, "Real anatomies: a brain that is kept, a knee that is forgotten")
    own = {"untouched": partial(task.predict, None), "unlearned": partial(task.predict, params)}
    own["oracle"] = partial(replace(task, model=task.oracle).predict, None)
    return {**sizes(task), **found, **real_kspace(folder / "kspace", {**own, "zero_filled": zero_filled}, study)}


def search_all(task: Task, study_file: StudyFile) -> tuple[Metrics, Mapping[str, Tensor]]:
    """Measures of the untouched model, the oracle, published SSD and each study's best trial; the default's model."""
    analysis = ssdtune.analyse(task)
    assert task.oracle is not None
    found = {"original": evaluate(task), "oracle": evaluate(replace(task, model=task.oracle))}
    metrics: Metrics = {}
    unlearned: Mapping[str, Tensor] = {}
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
        if name == "ssd":
            published = run(unlearner, {ALPHA: 10.0, LAMBDA: 1.0}, seed=0).params
            found["published"] = evaluate(task, published)
        elif name == DEFAULT:
            unlearned = params
    return metrics | {key: value for name, measures in found.items() for key, value in flat(name, measures)}, unlearned


def flat(name: str, measures: Measures) -> list[tuple[str, float]]:
    means = measures.summary()
    pairs = [(key, shown, measure) for key, shown in SET_NAMES.items() for measure in MEASURES]
    values = [(f"{name}.{shown}_{measure}", means[f"{key}_{measure}"]) for key, shown, measure in pairs]
    return [*values, (f"{name}.clean_unknown_ssim", means["unknown_clean_ssim"])]


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
