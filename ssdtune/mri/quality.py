"""SSIM, PSNR and NMSE of reconstructed slices, and the training loss built on SSIM.

Notation: x target and y output, both (batch, height, width) magnitude images of one slice each; R = ``target["max"]``,
the volume's maximum and the data range of SSIM and PSNR; N pixels a slice. The numbers are those of
``fastmri.evaluate`` on one-slice volumes, in one pass and batched, with a data range of its own for each slice.

A target is a dict of ``image`` (batch, h, w) and ``max`` (batch,) and, where the clean image is known, ``clean`` and
``clean_max``. Outputs are centre-cropped to the target, as fastMRI does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Wang et al., IEEE TIP 2004, eq. 13, with scikit-image's uniform window and unbiased covariance (the fastMRI metric)
WINDOW, K1, K2 = 7, 0.01, 0.03
COVARIANCE_NORM = WINDOW**2 / (WINDOW**2 - 1)
# weight of the L1 term in the training loss 1 - SSIM + weight * L1
L1_WEIGHT = 1e-5
LOSS_NAME = "ssim_l1"
# an error of exactly zero is reported as 200 dB and not as infinity, which would read as a broken model
_SMALLEST_ERROR = 1e-20


def image_measures(output: Tensor, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named per-slice measures, each (batch,) float64; ``ssim`` comes first, then ``psnr`` (dB) and ``nmse``.

    ``output`` is (batch, H, W) with H >= h and W >= w. With ``clean`` in the target, ``clean_ssim``, ``clean_psnr`` and
    ``clean_nmse`` follow. Non-finite output gives non-finite measures.
    """
    measures = _against(output, target["image"], target["max"])
    if "clean" in target:
        against_clean = _against(output, target["clean"], target["clean_max"])
        measures |= {f"clean_{name}": value for name, value in against_clean.items()}
    return measures


def training_loss(output: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """1 - SSIM + 1e-5 L1, mean over the batch, a scalar; differentiable, and fit for ``torch.func``.

    ``output`` is (batch, H, W); SSIM takes ``target["max"]`` as data range; L1 is the mean absolute error.
    Source: Sriram et al., MICCAI 2020 (E2E-VarNet, 1 - SSIM), with the L1 term of the M4Raw unlearning experiments.
    """
    image = target["image"]
    output = center_crop(output, image)
    l1 = (output - image).abs().mean(dim=(-2, -1))
    return (1 - ssim(output, image, target["max"]) + L1_WEIGHT * l1).mean()


def ssim(output: Tensor, image: Tensor, data_range: Tensor) -> Tensor:
    """Mean structural similarity of each slice, (batch,), in the dtype of the images.

    Both images are (batch, h, w), at least 7 pixels a side; ``data_range`` is (batch,). 7 x 7 uniform window, windows
    wholly inside the image, unbiased covariance: ``fastmri.evaluate.ssim`` and ``fastmri.SSIMLoss``.
    """
    # SSIM does not change with scale; at a data range of 1 small units cannot underflow
    scale = data_range.to(image.dtype)[..., None, None]
    x, y = image / scale, output / scale
    moments = torch.stack((x, y, x * x, y * y, x * y), dim=-3)
    ux, uy, uxx, uyy, uxy = _window_mean(_window_mean(moments, -2), -1).unbind(dim=-3)
    vx, vy, vxy = (COVARIANCE_NORM * value for value in (uxx - ux * ux, uyy - uy * uy, uxy - ux * uy))
    c1, c2 = K1**2, K2**2
    similarity = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux * ux + uy * uy + c1) * (vx + vy + c2))
    return similarity.mean(dim=(-2, -1))


def center_crop(output: Tensor, image: Tensor) -> Tensor:
    """The centre of ``output`` (..., H, W) of the size of ``image`` (..., h, w), cut where fastMRI cuts it."""
    (height, width), (h, w) = output.shape[-2:], image.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    return output[..., top : top + h, left : left + w]


def _window_mean(values: Tensor, dim: int) -> Tensor:
    """Mean of 7 neighbours along ``dim``: sums of 2, of 4 and then of 4 + 2 + 1, so 4 additions a value."""
    size = values.shape[dim] - WINDOW + 1
    pairs = values.narrow(dim, 0, size + 5) + values.narrow(dim, 1, size + 5)
    fours = pairs.narrow(dim, 0, size) + pairs.narrow(dim, 2, size)
    return (fours + pairs.narrow(dim, 4, size) + values.narrow(dim, 6, size)) / WINDOW


def _against(output: Tensor, image: Tensor, data_range: Tensor) -> dict[str, Tensor]:
    output = center_crop(output, image)
    pixels = image.shape[-2] * image.shape[-1]
    # sums of a hundred thousand squares: in float64, whatever the images are in
    error = (output - image).square().sum(dim=(-2, -1), dtype=torch.float64)
    energy = image.square().sum(dim=(-2, -1), dtype=torch.float64)
    peak = data_range.double().square() * pixels
    return {
        "ssim": ssim(output, image, data_range).double(),
        "psnr": -10 * torch.log10((error / peak).clamp_min(_SMALLEST_ERROR)),
        "nmse": error / energy,
    }
