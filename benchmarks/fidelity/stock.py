"""Masks and measures against fastMRI's own code, on simulated scans of several sizes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fastmri import evaluate
from fastmri.data import SliceDataset
from fastmri.data import subsample as fastmri_masks
from fastmri.data.transforms import VarNetDataTransform

from benchmarks.harness import Metrics
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.kspace.find import find_files
from ssdtune.mri.kspace.slices import KspaceSlices, open_slices
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.phantom.simulate import simulate_folder
from ssdtune.mri.quality import image_measures
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import batches

CLASSES = {
    "equispaced_fraction": fastmri_masks.EquispacedMaskFractionFunc,
    "equispaced": fastmri_masks.EquiSpacedMaskFunc,
    "random": fastmri_masks.RandomMaskFunc,
    "magic": fastmri_masks.MagicMaskFunc,
    "magic_fraction": fastmri_masks.MagicMaskFractionFunc,
}
PAIRS = [((4,), (0.08,)), ((8,), (0.04,)), ((4, 8), (0.08, 0.04))]
SIZES = [(64, 64), (64, 75), (96, 120)]
SMALL = TrainSection(cascades=2, channels=4, pools=2, sens_channels=2, sens_pools=2)


def masks(options: argparse.Namespace) -> Metrics:
    """Share of slices whose sampled lines and masked k-space are those of fastMRI's own dataset, to the bit."""
    equal: list[bool] = []
    with tempfile.TemporaryDirectory() as scratch:
        for folder in _scans(Path(scratch), options):
            for kind, mask_class in CLASSES.items():
                for folds, shares in PAIRS:
                    section = MaskSection(kind=kind, acceleration=folds, center_fraction=shares)  # type: ignore[arg-type]
                    stock = SliceDataset(folder, "multicoil", VarNetDataTransform(mask_class(shares, folds)))
                    ours = open_slices(find_files(folder), section, "varnet")
                    for (inputs, _), sample in zip(ours, stock, strict=True):
                        same = torch.equal(inputs[1], sample.mask)
                        equal.append(same and torch.equal(inputs[0], sample.masked_kspace))
    return {"masks.equal": float(np.mean(equal)), "masks.compared": float(len(equal))}


def stock(options: argparse.Namespace) -> Metrics:
    """Largest difference of a volume's measures to ``fastmri.evaluate``: zero-filled images, VarNet and U-Net."""
    worst: Metrics = {"stock.ssim_diff": 0.0, "stock.psnr_diff": 0.0, "stock.nmse_diff": 0.0}
    compared = 0
    with tempfile.TemporaryDirectory() as scratch:
        for folder in _scans(Path(scratch), options):
            for architecture in ("varnet", "unet"):
                slices = open_slices(find_files(folder), MaskSection(), architecture)
                model = build_model(SMALL.model_copy(update={"architecture": architecture})).eval()
                for reconstruct in (lambda *inputs: zero_filled(inputs), model):
                    found = _compared(slices, reconstruct)
                    compared += len(next(iter(found.values())))
                    for name, differences in found.items():
                        worst[f"stock.{name}_diff"] = max(worst[f"stock.{name}_diff"], float(differences.max()))
    return {**worst, "stock.volumes": float(compared)}


@torch.no_grad()
def _compared(slices: KspaceSlices, reconstruct: object) -> dict[str, np.ndarray]:
    """Absolute differences by volume."""
    columns: dict[str, list[np.ndarray]] = {}
    images: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for batch in batches(slices, 1):
        output = reconstruct(*batch.inputs)  # type: ignore[operator]
        for name, value in image_measures(output, batch.target).items():
            columns.setdefault(name, []).append(value.numpy())
        volume = slices.volumes[batch.indices[0]]
        images.setdefault(volume, []).append((batch.target["image"][0].numpy(), output[0].numpy()))
    ours = image_measures.by_volume({k: np.concatenate(v) for k, v in columns.items()}, slices.volumes)
    stock = {"ssim": evaluate.ssim, "psnr": evaluate.psnr, "nmse": evaluate.nmse}
    pairs = [tuple(np.stack(part) for part in zip(*each, strict=True)) for each in images.values()]
    return {
        name: np.abs(ours[name] - np.array([float(np.squeeze(measure(*pair))) for pair in pairs]))
        for name, measure in stock.items()
    }


def _scans(scratch: Path, options: argparse.Namespace) -> Iterator[Path]:
    """Folders of scans, one a size."""
    for size in SIZES[: 1 if options.quick else None]:
        folder = scratch / "x".join(map(str, size))
        simulate_folder(folder, size=size, subjects=2 if options.quick else 4, slices=3, coils=3, seed=options.seed)
        yield folder
