"""How near the seconds a trial that ``study create --dry-run`` says are to those of studies that are then run."""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.harness import Metrics
from ssdtune.cli.study_inputs import read_study_file
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.mri.phantom.simulate import simulate_folder
from ssdtune.mri.stand_in import stand_in
from ssdtune.mri.task import load_task
from ssdtune.study.create import create_study, measure_record
from ssdtune.study.foresight import foresee, method_passes
from ssdtune.study.record import read_trial
from ssdtune.study.run import run_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import FINISHED
from ssdtune.study.tune import prepare
from ssdtune.studyfile import StudyFile, TrainSection
from ssdtune.task import Task
from ssdtune.unlearning.method import Unlearner

STUDY = """name = "small"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
[score]
floor = 0.0
min_retained = 0.0
[search]
trials = 5
"""
METHODS = ("ssd", "spectral", "ft")
PHASES = ("unlearn", "reconstruct", "score", "search")  # reading the data is in neither figure
SIZES = TrainSection(cascades=2, channels=8, pools=2, sens_channels=4, sens_pools=2)


def dry_run(options: argparse.Namespace, size: int = 96, slices: int = 40) -> Metrics:
    """Predicted seconds of a trial over the mean of those evaluated in full, by method; what stopping saves."""
    quiet_optuna()
    found: Metrics = {}
    with tempfile.TemporaryDirectory() as scratch, patch.dict(os.environ, SSDTUNE_CACHE=f"{scratch}/cache"):
        folder = Path(scratch)
        for name, anatomy in (("retain", "brain"), ("forget", "knee")):
            simulate_folder(
                folder / name, anatomy=anatomy, subjects=2, slices=slices // 4, size=size, seed=options.seed
            )
        save_new_model(folder / "model.pt", build_model(SIZES), {})
        (folder / "study.toml").write_text(STUDY)
        for name in METHODS:
            study_file, chosen = read_study_file(folder / "study.toml", name)
            headers = load_task(study_file, options.device, headers_only=True)
            passes = method_passes(chosen, stand_in(headers))
            analysed = getattr(chosen.method, "uses_analysis", False)
            said = foresee(headers, study_file.fisher, study_file.search.trials, analysed, passes)
            task = load_task(study_file, options.device)
            started = time.perf_counter()
            unlearner = prepare(measure_record(task, study_file=study_file), task)
            prepared = time.perf_counter() - started
            took = mean_seconds(run_one(study_file, task, unlearner, "random", stop_early=False))
            found[f"dry_run.{name}.trial_said_s"], found[f"dry_run.{name}.trial_took_s"] = said.trial_seconds, took
            found[f"dry_run.{name}.trial_error"] = said.trial_seconds / took
            if analysed:
                found[f"dry_run.{name}.analysis_error"] = 60 * said.analysis_minutes / prepared
            stopped = mean_seconds(run_one(study_file, task, unlearner, "auto", stop_early=True))
            found[f"dry_run.{name}.stopped_share"] = stopped / took
            print(name, found, file=sys.stderr, flush=True)
    errors = [found[f"dry_run.{name}.trial_error"] for name in METHODS]
    return found | {"dry_run.trial_error": max(errors, key=lambda error: abs(math.log(error)))}


def run_one(
    study_file: StudyFile, task: Task, unlearner: Unlearner, sampler: str, stop_early: bool
) -> list[dict[str, Any]]:
    """What the trials of a study record, but the first, which reads the data and pays for the untouched model."""
    search = study_file.search.model_copy(update={"sampler": sampler})
    study = create_study(task, study_file=study_file.model_copy(update={"search": search}))
    run_study(study, task, unlearner, stop_early=stop_early)
    return [read_trial(trial) for trial in study.get_trials(deepcopy=False, states=FINISHED)][1:]


def mean_seconds(trials: Sequence[Mapping[str, float]]) -> float:
    """Of those that were measured at all: a setting that does what an earlier one did is not."""
    seconds = [sum(trial.get(f"seconds_{phase}", 0.0) for phase in PHASES) for trial in trials if trial.get("slices")]
    return statistics.mean(seconds)
