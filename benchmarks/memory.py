"""Memory: a study's peak does not grow with its trials, and a folder larger than memory is streamed.

`trials`: peak resident memory of whole processes that run the same small study for few and for many trials (MiB).
`stream`: a folder at least 3 times an address-space limit (`ulimit -v`) is checked, opened, hashed, analysed
and evaluated by one process under that limit; `stream_done` is 1 if it ended well. The model there is a U-Net, which
works on combined coils, so that reading is most of the work.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.harness import ROOT, Metrics, main

LIMIT_MIB = 1536

STUDY = """
name = "memory"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
[score]
floor = 0.0
min_retained = 0.0
[search]
sampler = "random"
"""


def measure(options: argparse.Namespace) -> Metrics:
    few, many = (5, 40) if options.quick else (5, 150)
    with tempfile.TemporaryDirectory() as folder:
        make_small(Path(folder), options.seed)
        peaks = [child("trials", folder, str(count)) for count in (few, many)]
    metrics: Metrics = {
        f"trials_{few}_peak_mib": peaks[0],
        f"trials_{many}_peak_mib": peaks[1],
        "trials_growth_mib": peaks[1] - peaks[0],
    }
    with tempfile.TemporaryDirectory() as folder:
        size = make_large(Path(folder), options.seed)
        peak = child("stream", folder, "0", limit=LIMIT_MIB)
    return metrics | {
        "stream_limit_mib": LIMIT_MIB,
        "stream_folder_mib": size,
        "stream_folder_over_limit": size / LIMIT_MIB,
        "stream_peak_mib": peak,
        "stream_done": int(peak > 0),
    }


def make_small(folder: Path, seed: int) -> None:
    from ssdtune.mri.phantom.simulate import simulate_folder

    for name, anatomy, subjects in (("retain", "brain", 4), ("forget", "knee", 2)):
        simulate_folder(folder / name, anatomy=anatomy, subjects=subjects, size=48, seed=seed)
    finish(folder, "varnet", channels=4)


def make_large(folder: Path, seed: int) -> float:
    """Files of 8-coil 384x320 slices, one simulated scan with fresh noise in each; returns their size in MiB."""
    from ssdtune.mri.kspace.write import write_volume
    from ssdtune.mri.phantom.simulate import simulate_volume

    total = 0
    for name, anatomy, share in (("forget", "knee", 0.05), ("retain", "brain", 3.05)):
        volume = simulate_volume(anatomy, size=(384, 320), slices=8, coils=8, seed=seed)
        number, size = 0, 0
        while size < share * LIMIT_MIB * 2**20:
            rng = np.random.default_rng([seed, number])
            noise = rng.standard_normal(volume.kspace.shape, dtype=np.float32) * np.float32(0.001)
            path = folder / name / f"{anatomy}_{number:03d}.h5"
            write_volume(path, volume.kspace + noise, volume.target)
            size += path.stat().st_size
            number += 1
        total += size
    finish(folder, "unet", channels=2)
    return total / 2**20


def finish(folder: Path, architecture: Literal["varnet", "unet"], channels: int) -> None:
    from ssdtune.mri.networks.models import build_model, save_new_model
    from ssdtune.studyfile import TrainSection

    section = TrainSection(
        architecture=architecture, cascades=1, channels=channels, pools=1, sens_channels=2, sens_pools=1
    )
    save_new_model(folder / "model.pt", build_model(section), {})
    (folder / "study.toml").write_text(STUDY)


def child(part: str, folder: str, trials: str, limit: int | None = None) -> float:
    """Peak resident MiB of this module running one part in a process of its own; 0 if it failed."""

    def set_limit() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit * 2**20, limit * 2**20))

    command = [sys.executable, "-m", "benchmarks.memory", "--part", part, "--folder", folder, "--trials", trials]
    # each thread of a library would claim addresses of its own
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, preexec_fn=set_limit)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
        return 0.0
    return float(done.stdout.split()[-1])


def run_part(part: str, folder: Path, trials: int) -> None:
    import torch

    import ssdtune
    from ssdtune.objective.evaluation import evaluate
    from ssdtune.study.create import create_study
    from ssdtune.study.record import read_record
    from ssdtune.study.run import run_study
    from ssdtune.study.tune import prepare
    from ssdtune.studyfile import load_study_file

    torch.set_num_threads(1)
    study_file = load_study_file(folder / "study.toml")
    task = ssdtune.load_task(study_file)
    assert task.identity
    analysis = ssdtune.analyse(task, memory_budget=2**28, max_gram_samples=64)
    if part == "trials":
        study = create_study(task, study_file=study_file)
        run_study(study, task, prepare(read_record(study), task, analysis), trials=trials)
    else:
        assert evaluate(task, analysis.dampen(10.0, 1.0), batch_size=1).finite
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def part_options() -> argparse.Namespace | None:
    """Options of a child process; None in the process that measures."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--part")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--trials", type=int)
    options, _ = parser.parse_known_args()
    return options if options.part else None


if __name__ == "__main__":
    if chosen := part_options():
        run_part(chosen.part, chosen.folder, chosen.trials)
    else:
        main(__doc__ or "", measure)
