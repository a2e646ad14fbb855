"""The losses that reconstruction models are trained with, by the names of ``[fisher] loss``.

``loss(output, target)``: output (batch, H, W), target as in ``mri.quality``; mean over the batch, a scalar, fit for
``torch.func``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ssdtune.mri.quality import center_crop, ssim, training_loss

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]

# fastMRI's U-Net transform: normalised values are cut off there, and what the standard deviation is kept from zero by
_CLIP, _EPS = 6.0, 1e-11


def ssim_loss(output: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """1 - SSIM: ``fastmri.losses.SSIMLoss`` with the volume's maximum as data range, as fastMRI's VarNet module."""
    image = target["image"]
    return (1 - ssim(center_crop(output, image), image, target["max"])).mean()


def l1_loss(output: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """Mean absolute error of images normalised by the zero-filled image's ``mean`` and ``std``, as fastMRI's U-Net.

    There the target is cut off at 6 standard deviations. Without ``mean`` and ``std`` in the target (a VarNet's), in
    units of the volume's maximum.
    """
    image = target["image"]
    output = center_crop(output, image)
    if "std" not in target:
        return ((output - image) / target["max"].to(image.dtype)[..., None, None]).abs().mean()
    mean, std = target["mean"][..., None, None], target["std"][..., None, None] + _EPS
    return ((output - mean) / std - ((image - mean) / std).clamp(-_CLIP, _CLIP)).abs().mean()


LOSSES: dict[str, Loss] = {"ssim": ssim_loss, "ssim-l1": training_loss, "l1": l1_loss}

# what fastMRI's examples train with
USUAL = {"varnet": "ssim", "unet": "l1"}


def recorded_name(loss: str) -> str:
    """The name by which results are told apart."""
    return loss.replace("-", "_")
