"""Real multi-coil k-space of three subjects on which nothing was trained: brains, T1 of 4 and 8 coils and T2 of 4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import torch

from benchmarks.harness import Metrics
from ssdtune.mri.kspace.check import check_files
from ssdtune.mri.kspace.fourier import centred, root_sum_of_squares
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import load_model
from ssdtune.mri.networks.stock import Reconstructor
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_folder, simulate_images
from ssdtune.mri.quality import image_measures
from ssdtune.studyfile import StudyFile
from ssdtune.task import batches

NOISE = 0.0025  # over the brightest pixel, as in the corners of the real images
KINDS = (("t1", 4), ("t1", 8), ("t2", 4), ("t2", 8))


def write_middle(source: Path, path: Path, size: tuple[int, int]) -> None:
    """The middle of a file's k-space, the same scan at a coarser resolution of ``size`` pixels."""
    with h5py.File(source) as file:
        kspace = file["kspace"][()]
        acquisition = str(file.attrs["acquisition"])
    for axis, count in zip((-2, -1), size, strict=True):
        kspace = centred(kspace, axis, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, kspace, root_sum_of_squares(kspace), acquisition=acquisition)


def write_alike(folder: Path, images: Path, size: tuple[int, int]) -> None:
    """Scans like the real ones, of other subjects: real brain slices and drawn brains, by the coils, contrasts and
    noise of the real scans."""
    common: dict[str, Any] = {"size": size, "noise": NOISE, "overwrite": True}
    for seed, coils in enumerate((4, 8, 4), 10):
        part, first = folder / f"real{seed}", 10 * (seed - 10) + 6
        simulate_images(part, images, files=5, slices=2, first=first, coils=coils, seed=seed, **common)
    for seed, (contrast, coils) in enumerate(KINDS):
        part = folder / f"drawn{seed}"
        simulate_folder(part, contrast=contrast, subjects=2, slices=3, coils=coils, seed=seed, **common)


def adapted(checkpoint: Path, alike: Path, study: StudyFile, device: str) -> Reconstructor:
    """A trained network after ten more epochs, on the scans of ``write_alike``."""
    model = load_model(checkpoint).module
    sets = [open_slices(sorted(part.glob("*.h5")), study.mask, "varnet") for part in sorted(alike.iterdir())]
    train(model, Joined(sets), epochs=10, learning_rate=1e-3, batch_size=2, seed=study.train.seed, device=device)
    return model


@torch.no_grad()
def real_kspace(folder: Path, models: Mapping[str, Any], study: StudyFile) -> Metrics:
    """Real k-space, reconstructed by each of ``models``, functions of a batch's inputs."""
    metrics: Metrics = {}
    for path in sorted(folder.glob("*.h5")):
        (report,) = check_files([path])
        if report.faults:
            raise SystemExit(f"error: {path} has faults, {report.faults}, look at it")
        for batch in batches(open_slices([path], study.mask, "varnet"), 1):
            for name, reconstruct in models.items():
                values = image_measures(reconstruct(batch.inputs), batch.target)
                metrics |= {f"kspace.{path.stem}.{name}_{key}": float(values[key]) for key in ("ssim", "psnr")}
    return metrics
