"""SSIM, PSNR and NMSE of reconstructed slices, and the training loss built on SSIM.

Notation: x target and y output, both (batch, height, width) magnitude images of one slice each; R = ``target["max"]``,
the volume's maximum and the data range of SSIM and PSNR; N pixels a slice. The numbers are those of
``fastmri.evaluate`` on one-slice volumes, in one pass and batched, with a data range of its own for each slice.

A target is a dict of ``image`` (batch, h, w) and ``max`` (batch,) and, where the clean image is known, ``clean`` and
``clean_max``. Outputs are centre-cropped to the target, as fastMRI does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ssdtune.arrays import Array

# Wang et al., IEEE TIP 2004, eq. 13, with scikit-image's uniform window and unbiased covariance (the fastMRI metric)
WINDOW, K1, K2 = 7, 0.01, 0.03
COVARIANCE_NORM = WINDOW**2 / (WINDOW**2 - 1)
# weight of the L1 term in the training loss 1 - SSIM + weight * L1
L1_WEIGHT = 1e-5
LOSS_NAME = "ssim_l1"
# an error of exactly zero is reported as 200 dB and not as infinity, which would read as a broken model
_SMALLEST_ERROR = 1e-20


class ImageMeasures:
    """Named per-slice measures, each (batch,) float64; ``ssim`` comes first, then ``psnr`` (dB) and ``nmse``.

    Output is (batch, H, W) with H >= h and W >= w. With ``clean`` in the target, ``clean_ssim``, ``clean_psnr`` and
    ``clean_nmse`` follow. Non-finite output gives non-finite measures. A target that has been through ``prepare`` gives
    the same numbers with less work.
    """

    def __call__(self, output: Tensor, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        measures = _against(output, target, "image", "max")
        if "clean" in target:
            against_clean = _against(output, target, "clean", "clean_max")
            measures |= {f"clean_{name}": value for name, value in against_clean.items()}
        return measures

    def prepare(self, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The target with what SSIM and NMSE need of it alone: window means, variances, energy."""
        known: dict[str, Tensor] = {}
        for image, top in (("image", "max"), ("clean", "clean_max")):
            if image in target:
                x = target[image] / target[top].to(target[image].dtype)[..., None, None]
                mean, square = (_window_mean(_window_mean(value, -2), -1) for value in (x, x * x))
                variance = COVARIANCE_NORM * (square - mean * mean)
                known |= {
                    f"{image}_mean": mean,
                    f"{image}_variance": variance,
                    f"{image}_energy": _energy(target[image]),
                }
        return {**target, **known}

    def by_volume(self, columns: Mapping[str, Array], volumes: Sequence[str]) -> dict[str, Array]:
        """The measures of whole volumes, each (v,), from those of their slices, (n,) each; volumes in order of sight.

        What ``fastmri.evaluate`` gives for a volume whose maximum is ``max``: SSIM is the mean over slices; PSNR and
        NMSE are of all pixels together. ``volumes`` (n,) names each slice's.
        """
        names = list(dict.fromkeys(volumes))
        place = {name: number for number, name in enumerate(names)}
        group = np.array([place[name] for name in volumes])
        found: dict[str, Array] = {}
        for prefix in ("", "clean_"):
            if f"{prefix}psnr" not in columns:
                continue
            slices = np.bincount(group)
            # squared error of a slice in units of its peak; it over NMSE is the slice's energy in the same units
            error, nmse = 10 ** (-columns[f"{prefix}psnr"] / 10), columns[f"{prefix}nmse"]
            total = np.bincount(group, error)
            with np.errstate(divide="ignore", invalid="ignore"):
                energy = np.bincount(group, np.where(nmse > 0, error / nmse, 0.0) + 0 * nmse)
                found |= {
                    f"{prefix}ssim": np.bincount(group, columns[f"{prefix}ssim"]) / slices,
                    f"{prefix}psnr": -10 * np.log10(total / slices),
                    f"{prefix}nmse": np.where(energy > 0, total / energy, 0 * energy),
                }
        return found


image_measures = ImageMeasures()


def training_loss(output: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """1 - SSIM + 1e-5 L1, mean over the batch, a scalar; differentiable, and fit for ``torch.func``.

    ``output`` is (batch, H, W); SSIM takes ``target["max"]`` as data range; L1 is the mean absolute error.
    Source: Sriram et al., MICCAI 2020 (E2E-VarNet, 1 - SSIM), with the L1 term of the M4Raw unlearning experiments.
    """
    image = target["image"]
    output = center_crop(output, image)
    l1 = (output - image).abs().mean(dim=(-2, -1))
    return (1 - ssim(output, image, target["max"]) + L1_WEIGHT * l1).mean()


def image_distance(output: Tensor, reference: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """The training loss with another reconstruction (batch, H, W) as the target, in the target's window and range."""
    return training_loss(output, {"image": center_crop(reference, target["image"]), "max": target["max"]})


def image_noise(target: Mapping[str, Tensor], size: float, draw: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The target with noise of ``size`` times the volume's maximum (Xue et al., 2024, in relative units)."""
    image, top = target["image"], target["max"].to(target["image"].dtype)
    kept = {name: value for name, value in target.items() if name in ("max", "mean", "std")}
    return {"image": image + size * top[..., None, None] * draw(image), **kept}


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
    return _similarity(ux, uy, vx, vy, vxy)


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


def _similarity(ux: Tensor, uy: Tensor, vx: Tensor, vy: Tensor, vxy: Tensor) -> Tensor:
    """Mean SSIM from window means, variances and covariance at a data range of 1."""
    c1, c2 = K1**2, K2**2
    similarity = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux * ux + uy * uy + c1) * (vx + vy + c2))
    return similarity.mean(dim=(-2, -1))


def _ssim_of_prepared(output: Tensor, target: Mapping[str, Tensor], name: str, data_range: Tensor) -> Tensor:
    """``ssim`` with the target's moments at hand: three of five window means are left."""
    scale = data_range.to(output.dtype)[..., None, None]
    x, y = target[name] / scale, output / scale
    ux, vx = target[f"{name}_mean"], target[f"{name}_variance"]
    uy, uyy, uxy = (_window_mean(_window_mean(value, -2), -1) for value in (y, y * y, x * y))
    return _similarity(ux, uy, vx, COVARIANCE_NORM * (uyy - uy * uy), COVARIANCE_NORM * (uxy - ux * uy))


def _against(output: Tensor, target: Mapping[str, Tensor], name: str, top: str) -> dict[str, Tensor]:
    image, data_range = target[name], target[top]
    output = center_crop(output, image)
    prepared = f"{name}_mean" in target
    # sums of a hundred thousand squares: in float64, whatever the images are in
    error = (output - image).square().sum(dim=(-2, -1), dtype=torch.float64)
    energy = target[f"{name}_energy"] if prepared else _energy(image)
    peak = data_range.double().square() * (image.shape[-2] * image.shape[-1])
    similar = _ssim_of_prepared(output, target, name, data_range) if prepared else ssim(output, image, data_range)
    return {
        "ssim": similar.double(),
        "psnr": -10 * torch.log10((error / peak).clamp_min(_SMALLEST_ERROR)),
        "nmse": error / energy,
    }


def _energy(image: Tensor) -> Tensor:
    return image.square().sum(dim=(-2, -1), dtype=torch.float64)
