"""Real multi-coil k-space of three subjects on which nothing was trained: brains, T1 of 4 and 8 coils and T2 of 4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.harness import Metrics
from ssdtune.mri.kspace.check import check_files
from ssdtune.mri.kspace.fourier import centred, fft2c, ifft2c, root_sum_of_squares
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
EPOCHS, RATE = 5, 3e-3  # few: of ten on a third of these scans the later ones did harm
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
    """Scans like the real ones, of other subjects: real brain slices and drawn brains, with their coils, contrasts and
    noise; those of eight coils wrap in a field of view that is too small, as the real one does."""
    common: dict[str, Any] = {"noise": NOISE, "overwrite": True}
    for seed, coils in enumerate((4, 8, 4), 10):
        part, first, wide = folder / f"real{seed}", 20 * (seed - 10) + 6, wider(size, coils)
        simulate_images(part, images, files=10, slices=2, first=first, size=wide, coils=coils, seed=seed, **common)
    for seed, (contrast, coils) in enumerate(KINDS):
        part, wide = folder / f"drawn{seed}", wider(size, coils)
        simulate_folder(part, contrast=contrast, subjects=8, slices=3, size=wide, coils=coils, seed=seed, **common)
    for path in folder.rglob("*.h5"):
        wrap(path, size[1])


def wider(size: tuple[int, int], coils: int) -> tuple[int, int]:
    """The size before wrapping: that of eight coils is a fifth wider."""
    return size[0], size[1] * 6 // 5 if coils == 8 else size[1]


def wrap(path: Path, width: int) -> None:
    """Write a scan anew in a field of view of ``width`` columns: what lies beyond it comes in on the other side."""
    with h5py.File(path) as file:
        kspace, acquisition = file["kspace"][()], str(file.attrs["acquisition"])
    beyond = kspace.shape[-1] - width
    if not beyond:
        return
    coil_images = ifft2c(kspace)
    left, right = beyond // 2, beyond - beyond // 2
    folded = coil_images[..., left : left + width].copy()
    folded[..., width - left :] += coil_images[..., :left]
    folded[..., :right] += coil_images[..., left + width :]
    kspace = fft2c(folded).astype(np.complex64)
    path.unlink()
    write_volume(path, kspace, root_sum_of_squares(kspace), acquisition=acquisition)


def adapted(checkpoint: Path, alike: Path, study: StudyFile, device: str) -> Reconstructor:
    """A trained network after ``EPOCHS`` more, on the scans of ``write_alike``."""
    model = load_model(checkpoint).module
    sets = [open_slices(sorted(part.glob("*.h5")), study.mask, "varnet") for part in sorted(alike.iterdir())]
    train(model, Joined(sets), epochs=EPOCHS, learning_rate=RATE, batch_size=2, seed=study.train.seed, device=device)
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
