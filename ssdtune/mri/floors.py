"""What a model that never saw the forget set would score on it, without such a model at hand.

Two ways. ``clean``: such a model draws the clean image, as well as it draws retain images; against the corrupted target
that is about SSIM(clean target, corrupted target) times its retain quality (0.753 against a true oracle's
0.739 to 0.750). ``zero-filled``: the quality of the undersampled data without any model.
"""

from __future__ import annotations

import fastmri
import numpy as np
import torch
from torch import Tensor

from ssdtune.mri.kspace.slices import KspaceSlices
from ssdtune.mri.quality import image_measures


def zero_filled(inputs: tuple[Tensor, ...]) -> Tensor:
    """Root-sum-of-squares image (..., H, W) that a VarNet's or a U-Net's inputs show, with or without batch."""
    if inputs[1].dtype == torch.bool:
        found: Tensor = fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(inputs[0])), dim=-3)
        return found
    image, mean, std = inputs
    return image * std[..., None, None] + mean[..., None, None]


def clean_similarity(slices: KspaceSlices) -> np.ndarray:
    """SSIM of the clean against the corrupted target of each slice, float64; the set must know its clean targets."""
    return np.array([_ssim(target["clean"], target) for _, target in slices])


def zero_filled_similarity(slices: KspaceSlices) -> np.ndarray:
    """SSIM of each slice's zero-filled image against its target, float64."""
    return np.array([_ssim(zero_filled(inputs), target) for inputs, target in slices])


def _ssim(image: Tensor, target: dict[str, Tensor]) -> float:
    one = {"image": target["image"][None], "max": target["max"][None]}
    return float(image_measures(image[None], one)["ssim"])
