"""fastMRI's U-Net in evaluation mode: the same numbers to float32 rounding, with kernels that are faster.

An instance norm is a group norm of one channel a group. On a CPU pooling, transposed and 1 x 1 convolutions are written
out, as torch's own kernels take several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SLOPE = 0.2  # of fastMRI's leaky ReLU
NORM_EPS = 1e-5  # of torch's instance norm


def weight_names(pools: int) -> list[str]:
    """The parameters of ``fastmri.models.Unet`` in the order in which ``unet`` takes them."""
    blocks = [f"down_sample_layers.{level}" for level in range(pools)] + ["conv"]
    names = [f"{block}.layers.{layer}.weight" for block in blocks for layer in (0, 4)]
    for level in range(pools):
        inner = "0." if level == pools - 1 else ""
        names.append(f"up_transpose_conv.{level}.layers.0.weight")
        names += [f"up_conv.{level}.{inner}layers.{layer}.weight" for layer in (0, 4)]
    return [*names, f"up_conv.{pools - 1}.1.weight", f"up_conv.{pools - 1}.1.bias"]


def unet(weights: Sequence[Tensor], image: Tensor) -> Tensor:
    """The network on (N, channels, h, w), in the dtype of image and weights."""
    pools = (len(weights) - 4) // 5
    kept, output = [], image
    for level in range(pools):
        output = _block(weights[2 * level], weights[2 * level + 1], output)
        kept.append(output)
        output = _halve(output)
    output = _block(weights[2 * pools], weights[2 * pools + 1], output)
    for level in range(pools):
        up, first, second = weights[2 * pools + 2 + 3 * level :][:3]
        output = _activate(_double(output, up))
        skipped = kept.pop()
        bottom, right = (s - o for s, o in zip(skipped.shape[-2:], output.shape[-2:], strict=True))
        if bottom or right:
            output = F.pad(output, (0, right, 0, bottom), "reflect")
        output = _block(first, second, torch.cat((output, skipped), dim=1))
    return _mix(output, weights[-2], weights[-1])


def _block(first: Tensor, second: Tensor, image: Tensor) -> Tensor:
    for weight in (first, second):
        image = _activate(F.conv2d(image, weight, padding=1))
    return image


def _activate(image: Tensor) -> Tensor:
    return F.leaky_relu_(F.group_norm(image, image.shape[1], eps=NORM_EPS), SLOPE)


def _halve(image: Tensor) -> Tensor:
    """Average pooling by 2."""
    height, width = (size // 2 * 2 for size in image.shape[-2:])
    rows = image[..., 0:height:2, :width] + image[..., 1:height:2, :width]
    return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)


def _double(image: Tensor, weight: Tensor) -> Tensor:
    """Transposed convolution by 2 x 2 with stride 2; on a CPU as a matrix product, up to 3 times faster."""
    if image.device.type != "cpu":
        return F.conv_transpose2d(image, weight, stride=2)
    batch, channels, height, width = image.shape
    pixels = weight.reshape(channels, -1).T @ image.reshape(batch, channels, -1)
    pixels = pixels.reshape(batch, -1, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return pixels.reshape(batch, -1, 2 * height, 2 * width)


def _mix(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution by 1 x 1; on a CPU as a matrix product, 10 to 20 times faster for few channels."""
    if image.device.type != "cpu":
        return F.conv2d(image, weight, bias)
    batch, _, height, width = image.shape
    pixels = weight[:, :, 0, 0] @ image.reshape(batch, image.shape[1], -1)
    return (pixels + bias[:, None]).reshape(batch, -1, height, width)
