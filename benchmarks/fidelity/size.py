"""A folder of a thousand volumes: what looking at it and planning a study of it take."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from benchmarks.harness import ROOT, Metrics
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.studyfile import TrainSection

VOLUMES, SLICES, COILS, SIDE = 1000, 15, 4, 320
STUDY = """name = "large"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
retain_slices = 100
[method]
name = "ssd"
"""


def size(options: argparse.Namespace) -> Metrics:
    """Seconds and peak memory of ``data check``, ``create --dry-run`` and both together."""
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), 20 if options.quick else VOLUMES)
        found: Metrics = {}
        for name, words in {
            "data_check": ["data", "check", f"{folder}/retain", "--json"],
            "dry_run": ["study", "create", f"{folder}/study.toml", "--dry-run", "--json"],
        }.items():
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-c", "from ssdtune.cli import main; main()", *words]
            environment = os.environ | {"SSDTUNE_CACHE": f"{folder}/cache", "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            found[f"{name}_s"] = time.perf_counter() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[f"{name}_cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found[f"{name}_gib"] = after.ru_maxrss / 2**20
            print(name, found, file=sys.stderr, flush=True)
    return found


def make_folder(folder: Path, volumes: int) -> None:
    """Sparse retain volumes, whose slices hold one value that is never written, two real forget ones, and a model."""
    for name, subject in (("a", 1), ("b", 2)):
        volume = simulate_volume("knee", size=SIDE, slices=2, coils=COILS, subject=subject)
        volume.write(folder / "forget" / f"{name}.h5")
    one = np.full((1, COILS, SIDE, SIDE), 1 + 0j, np.complex64)
    write_volume(folder / "one.h5", one, np.ones((1, SIDE, SIDE), np.float32))
    (folder / "retain").mkdir()
    with h5py.File(folder / "one.h5") as pattern:
        for number in range(volumes):
            with h5py.File(folder / "retain" / f"{number:04}.h5", "w") as file:
                pattern.copy("ismrmrd_header", file)
                file.attrs.update(pattern.attrs)
                file.attrs["max"] = 1.0
                file.attrs["patient_id"] = f"{number:04}"
                file.create_dataset(
                    "kspace", (SLICES, COILS, SIDE, SIDE), np.complex64, fillvalue=np.complex64(number + 1)
                )
                file.create_dataset("reconstruction_rss", (SLICES, SIDE, SIDE), np.float32, fillvalue=1.0)
    section = TrainSection(cascades=2, channels=4, pools=2, sens_channels=2, sens_pools=2)
    save_new_model(folder / "model.pt", build_model(section), {})
    (folder / "study.toml").write_text(STUDY)
