"""Lesions made by a CycleGAN: the translator's check, and unlearning them beside pasted lesions.

The commands of studies/cyclegan.toml. `cyclegan.inside_contrast` : mean change inside a lesion over the 95 % quantile
of the body, `cyclegan.outside_nmse` : what changed elsewhere over what was there (goal 0.05), `cyclegan.lesioned` :
share of unseen healthy images that got a lesion; `pasted.inside_contrast` : of lesions that were pasted, the domain
that was learned. `cyclegan.train_s` : processor seconds of the training on one thread (goal: 1200 on 2 cores). Then a
VarNet learned brains and knees with lesions of either source, and the study file's default method was searched:
`SOURCE.{score,retained,forget_remembered,unknown_remembered}`; `SOURCE.learned` : SSIM on the forget set's targets,
untouched model less oracle. `SOURCE-longer` : twice the trials; `SOURCE-ng` : negative gradient in place of the default
method. Means over trained models with the lowest and the highest. `--work` keeps what is done, and a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import ssdtune
from benchmarks.harness import ROOT, Metrics, kept, main, with_range
from ssdtune.cli import cli
from ssdtune.mri.translation.domains import read_domain
from ssdtune.mri.translation.translator import check, load_translator
from ssdtune.objective.evaluation import evaluate
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.tune import unlearned_params
from ssdtune.studyfile import DEFAULT_METHOD, StudyFile, load_study_file

STUDY = ROOT / "studies/cyclegan.toml"
SOURCES = ("cyclegan", "pasted")
SEARCHES = {"": (DEFAULT_METHOD, 1), "-longer": (DEFAULT_METHOD, 2), "-ng": ("ng", 1)}
"""Method and how many times the study file's trials, by what follows the source's name."""
SCAN = "--size 64 --coils 2 --noise 0.005"
SMALL = SCAN.replace("64", "32")  # of what is reconstructed


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--steps", type=int, help="of the translator's training (default 1500, quick 100)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/cyclegan", metavar="DIR", help="of what is made")
    parser.add_argument("--picture", action="store_true", help="put the translator's into docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    work = chosen.work / ("quick" if chosen.quick else "full")
    subjects, steps = (10 if chosen.quick else 50), chosen.steps or (100 if chosen.quick else 1500)
    made = make_translator(work, subjects, steps)
    if chosen.picture:
        (ROOT / "docs/images/cyclegan.png").write_bytes((work / "translator.png").read_bytes())
    make_knees(work)
    models = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    found = [unlearn(work, seed, chosen.quick) for seed in models]
    metrics = made | {"models": len(found), "steps": steps}
    for name in found[0]:
        metrics |= with_range(name, [each[name] for each in found])
    return metrics


def make_translator(work: Path, subjects: int, steps: int) -> Metrics:
    """Simulate both domains, train, and check the translator on knees of neither."""
    file, timed = work / "translator.pt", work / "translator.json"
    simulate(work / "healthy", f"--anatomy knee --subjects {subjects}")
    simulate(work / "clean", f"--anatomy knee --subjects {subjects} --first 100")
    if not (work / "lesions").exists():
        ssdtune_command(
            f"data poison {work}/clean --out {work}/lesions --kind lesion --amplitude 0.8 --fraction 1 --vary"
        )
    if not file.exists():
        spent = json.loads(timed.read_text())["seconds"] if timed.exists() else 0.0
        started = time.process_time()
        try:
            ssdtune_command(f"data translate {work}/healthy {work}/lesions/poisoned --out {file} --steps {steps}")
        finally:
            timed.write_text(json.dumps({"seconds": spent + time.process_time() - started}))
    translator = load_translator(file)
    simulate(work / "unseen", "--anatomy knee --subjects 10 --first 300")
    healthy = (read_domain(work / "unseen", 64)[:, 0].numpy() + 1) / 2
    change = translator.corruption()
    found = check(healthy, np.stack([change(image, 1.0, np.random.default_rng()) for image in healthy]))
    pasted = check(*((read_domain(work / name, 64)[:, 0].numpy() + 1) / 2 for name in ("clean", "lesions/poisoned")))
    print(asdict(found), asdict(pasted), sep="\n")
    return {
        "cyclegan.inside_contrast": found.contrast,
        "cyclegan.outside_nmse": found.outside_nmse,
        "cyclegan.lesioned": found.lesioned,
        "pasted.inside_contrast": pasted.contrast,
        "cyclegan.train_s": json.loads(timed.read_text())["seconds"],
    }


def make_knees(work: Path) -> None:
    simulate(work / "brain", "--subjects 12", SMALL)
    simulate(work / "brain_heldout", "--subjects 3 --first 100", SMALL)
    simulate(work / "knee_clean", "--anatomy knee --subjects 8 --first 200", SMALL)
    kinds = {"cyclegan": f"cyclegan --amplitude 1 --model {work}/translator.pt", "pasted": "lesion --amplitude 0.8"}
    for source, kind in kinds.items():
        if not (work / source).exists():
            ssdtune_command(
                f"data poison {work}/knee_clean --out {work}/{source} --fraction 1 --known 0.5 --kind {kind}"
            )


def unlearn(work: Path, seed: int, quick: bool) -> Metrics:
    """Train a model for each source and one oracle for both, search, and say what was forgotten."""
    metrics: Metrics = {}
    for source in SOURCES:
        for label in SEARCHES:
            make = partial(searched, work, source, label, seed, quick)
            metrics |= kept(work / f"{source}{seed}{label}.json", make)
    return metrics


def searched(work: Path, source: str, label: str, seed: int, quick: bool) -> Metrics:
    """What the best of a search gives."""
    study, (method, times), name = study_of(work, source, seed, quick), SEARCHES[label], f"{source}{label}"
    task = ssdtune.load_task(study)
    assert task.oracle is not None
    untouched, oracle = (evaluate(each).summary() for each in (task, replace(task, model=task.oracle)))
    found = ssdtune.tune(task, times * study.search.trials, method=method, seed=seed, name=name)
    after = evaluate(task, unlearned_params(found, task)).summary()
    metrics: Metrics = {}
    q = {which: (untouched[f"{which}_ssim"], after[f"{which}_ssim"], oracle[f"{which}_ssim"]) for which in SETS}
    for which in ("forget", "unknown"):
        a, b, c = q[which]
        metrics[f"{name}.{which}_remembered"] = (b - c) / (a - c)
    return metrics | {
        f"{name}.score": float(found.best_value),
        f"{name}.retained": q["retain"][1] / q["retain"][0],
        f"{name}.learned": q["forget"][0] - q["forget"][2],
    }


SETS = ("retain", "forget", "unknown")


def study_of(work: Path, source: str, seed: int, quick: bool) -> StudyFile:
    """The study file with its data and checkpoints in ``work``; models are trained where there are none."""
    text = STUDY.read_text().replace("../data/cyclegan/knee/", f"../data/cyclegan/{source}/")
    text = text.replace("../data/cyclegan/", f"{work.resolve()}/").replace("poisoned.pt", f"{source}{seed}.pt")
    text = text.replace("oracle.pt", f"oracle{seed}.pt").replace("[train]", f"[train]\nseed = {seed}")
    text = text.replace("trials = 20", "trials = 8").replace("epochs = 30", "epochs = 15") if quick else text
    path = work / f"{source}{seed}.toml"
    path.write_text(text)
    for name, flag in ((source, ""), ("oracle", "--oracle")):
        if not (work / f"{name}{seed}.pt").exists():
            ssdtune_command(f"train {path} --out {work}/{name}{seed}.pt {flag}")
    return load_study_file(path)


def simulate(folder: Path, words: str, scan: str = SCAN) -> None:
    if not folder.exists():
        ssdtune_command(f"data simulate {folder} {scan} {words}")


def ssdtune_command(line: str) -> None:
    print(f"$ ssdtune {line}", flush=True)
    cli.main(line.split(), standalone_mode=False)


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
