"""How near the seconds a trial that ``study create --dry-run`` says are to those of a study that is then run."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Metrics
from ssdtune.fisher.cache import analyse_as
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.mri.phantom.simulate import simulate_folder
from ssdtune.mri.task import load_task
from ssdtune.study.create import create_study
from ssdtune.study.foresight import foresee
from ssdtune.study.record import read_record, read_trial
from ssdtune.study.run import run_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import FINISHED
from ssdtune.study.tune import prepare
from ssdtune.studyfile import TrainSection, load_study_file

STUDY = """name = "small"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
[score]
floor = 0.0
min_retained = 0.0
[method]
name = "ssd"
[search]
sampler = "random"
trials = 6
"""
SIZES = TrainSection(cascades=2, channels=8, pools=2, sens_channels=4, sens_pools=2)


def dry_run(options: argparse.Namespace, size: int = 96, slices: int = 40) -> Metrics:
    """Predicted seconds of a trial over the median of those evaluated in full; reading the data is in neither."""
    quiet_optuna()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, anatomy in (("retain", "brain"), ("forget", "knee")):
            out, number = folder / name, slices // 4
            simulate_folder(out, anatomy=anatomy, subjects=2, slices=number, size=size, seed=options.seed)
        save_new_model(folder / "model.pt", build_model(SIZES), {})
        (folder / "study.toml").write_text(STUDY)
        study_file = load_study_file(folder / "study.toml")
        headers = load_task(study_file, options.device, headers_only=True)
        said = foresee(headers, study_file.fisher, study_file.search.trials, analysed=True)
        task = load_task(study_file, options.device)
        study = create_study(task, study_file=study_file)
        analysis = analyse_as(task, study_file.fisher)
        run_study(study, task, prepare(read_record(study), task, analysis), stop_early=False)
    trials = [read_trial(trial) for trial in study.get_trials(deepcopy=False, states=FINISHED)]
    phases = ("unlearn", "reconstruct", "score", "search")
    full = [sum(trial.get(f"seconds_{phase}", 0.0) for phase in phases) for trial in trials if trial.get("slices")]
    measured = statistics.median(full)
    print(f"said {said.trial_seconds:.3g} s a trial, took {measured:.3g} s, {len(full)} trials", file=sys.stderr)
    return {
        "dry_run.trial_error": said.trial_seconds / measured,
        "dry_run.trial_said_s": said.trial_seconds,
        "dry_run.trial_took_s": measured,
        "dry_run.analysis_error": 60 * said.analysis_minutes / float(analysis.record["seconds"]["total"]),
    }
