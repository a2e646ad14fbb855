"""Whether SSD's prior, which was learned from models trained under one mask a file, serves those trained as fastMRI
trains, under a new mask in each epoch."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Metrics
from benchmarks.trial_cost.tasks import SSD, Case, Sizes, make_case
from ssdtune.errors import ConfigError
from ssdtune.study.create import create_study
from ssdtune.study.record import read_record
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import scored_trials
from ssdtune.studyfile import SearchSection

SIZES = Sizes(pixels=32, cascades=1, channels=4, pools=2, epochs=8, train=60, retain=40, forget=20)
TASKS, TRIALS, AFTER = 8, 16, (1, 3)


def random_masks(options: argparse.Namespace) -> Metrics:
    """Mean regrets on either kind of model, and the ratio after the last of ``AFTER`` trials."""
    quiet_optuna()
    found: dict[str, list[Metrics]] = {"frozen": [], "random": []}
    left_out = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2 if options.quick else TASKS):
            try:
                pair = {how: _one(Path(folder) / how, options.seed, number, how == "random") for how in found}
            except ConfigError as reason:  # one of the two models has learned nothing that it could forget
                print(number, reason, file=sys.stderr, flush=True)
                left_out += 1
                continue
            print(number, pair, file=sys.stderr, flush=True)
            for how, row in pair.items():
                found[how].append(row)
    means = {
        f"random_masks.{how}.regret_{after}": float(np.mean([row[f"regret_{after}"] for row in rows]))
        for how, rows in found.items()
        for after in AFTER
    }
    last = AFTER[-1]
    ratio = means[f"random_masks.random.regret_{last}"] / max(means[f"random_masks.frozen.regret_{last}"], 1e-3)
    counts = {"random_masks.tasks": float(len(found["random"])), "random_masks.left_out": float(left_out)}
    return {**means, **counts, "random_masks.regret_ratio": ratio}


def _one(folder: Path, seed: int, number: int, random_masks: bool) -> Metrics:
    return regrets(make_case(folder, SIZES, seed + 900, number, random_masks=random_masks), seed)


def regrets(case: Case, seed: int) -> Metrics:
    """``regret_N``: the best s of all trials of two samplers less that of the first N of the one with the prior."""
    values = {sampler: _scores(case, sampler, seed) for sampler in ("spectrum", "tpe")}
    best = max(max(column) for column in values.values())
    return {f"regret_{after}": best - max(values["spectrum"][:after]) for after in AFTER}


def _scores(case: Case, sampler: str, seed: int) -> list[float]:
    """s of each trial in order; one that is not feasible counts as the untouched model."""
    search = SearchSection.model_validate({"sampler": sampler, "trials": TRIALS, "seed": seed})
    study = create_study(case.task, name=sampler, method=SSD, search=search)
    case.run(study, stop_early=False)
    untouched = read_record(study).rule.retain_weight
    done = sorted(scored_trials(study), key=lambda trial: trial.number)
    return [max(trial.score.value, untouched) if trial.score.feasible else untouched for trial in done]
