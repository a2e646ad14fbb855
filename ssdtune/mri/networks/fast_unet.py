"""fastMRI's U-Net in evaluation mode: the same numbers to float32 rounding, with kernels that are faster.

An instance norm is a group norm of one channel a group. On a CPU pooling, transposed and 1 x 1 convolutions are written
out, as torch's own kernels take several times as long. Tensors lie channels-last where a CPU's convolutions would else
pad blocks of channels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SLOPE = 0.2  # of fastMRI's leaky ReLU
NORM_EPS = 1e-5  # of torch's instance norm

Params = Mapping[str, Tensor]


def faster_channels_last(channels: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a U-Net of so many channels takes much less time with its tensors channels-last.

    It does in float32 on a CPU for numbers such as fastMRI's 18, which blocks of channels do not fit; with others the
    norms lose most of what the convolutions gain (``ways`` in benchmarks/RESULTS.md). On a GPU it is not known.
    """
    return device.type == "cpu" and dtype == torch.float32 and channels > 16 and channels % 8 != 0


class Unets:
    """U-Nets by the prefix of their parameters' names, in one dtype.

    ``channels_last`` : prefixes of those whose tensors lie so.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, channels_last: Collection[str] = ()) -> None:
        self.dtype, self._last = dtype, tuple(channels_last)
        self._names: dict[str, list[str]] = {}

    def laid(self, name: str, value: Tensor) -> Tensor:
        """A parameter in the dtype and the memory format that it is used in."""
        last = value.dim() == 4 and name.startswith(self._last)
        return value.to(self.dtype, memory_format=torch.channels_last if last else torch.preserve_format)

    def __call__(self, params: Params, prefix: str, image: Tensor) -> Tensor:
        """The U-Net's output on (N, channels, h, w), in ``dtype``; parameters are as ``laid`` gives them."""
        if prefix not in self._names:
            pools = sum(name.startswith(prefix + "up_transpose_conv.") for name in params)
            self._names[prefix] = [prefix + name for name in weight_names(pools)]
        weights = [params[name] for name in self._names[prefix]]
        return unet(weights, image.to(self.dtype), prefix in self._last)


def weight_names(pools: int) -> list[str]:
    """The parameters of ``fastmri.models.Unet`` in the order in which ``unet`` takes them."""
    blocks = [f"down_sample_layers.{level}" for level in range(pools)] + ["conv"]
    names = [f"{block}.layers.{layer}.weight" for block in blocks for layer in (0, 4)]
    for level in range(pools):
        inner = "0." if level == pools - 1 else ""
        names.append(f"up_transpose_conv.{level}.layers.0.weight")
        names += [f"up_conv.{level}.{inner}layers.{layer}.weight" for layer in (0, 4)]
    return [*names, f"up_conv.{pools - 1}.1.weight", f"up_conv.{pools - 1}.1.bias"]


def unet(weights: Sequence[Tensor], image: Tensor, channels_last: bool = False) -> Tensor:
    """The network on (N, channels, h, w), in the dtype of image and weights, which lie ``channels_last`` then."""
    pools = (len(weights) - 4) // 5
    kept, output = [], image.contiguous(memory_format=torch.channels_last) if channels_last else image
    for level in range(pools):
        output = _block(weights[2 * level], weights[2 * level + 1], output)
        kept.append(output)
        output = _halve(output)
    output = _block(weights[2 * pools], weights[2 * pools + 1], output)
    for level in range(pools):
        up, first, second = weights[2 * pools + 2 + 3 * level :][:3]
        output = _activate(_double(output, up, channels_last))
        skipped = kept.pop()
        bottom, right = (s - o for s, o in zip(skipped.shape[-2:], output.shape[-2:], strict=True))
        if bottom or right:
            output = F.pad(output, (0, right, 0, bottom), "reflect")
        output = _block(first, second, torch.cat((output, skipped), dim=1))
    return _mix(output, weights[-2], weights[-1], channels_last)


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


def _double(image: Tensor, weight: Tensor, channels_last: bool) -> Tensor:
    """Transposed convolution by 2 x 2 with stride 2; on a CPU as a matrix product, up to 3 times faster."""
    if image.device.type != "cpu":
        return F.conv_transpose2d(image, weight, stride=2)
    batch, channels, height, width = image.shape
    if channels_last:
        pixels = image.permute(0, 2, 3, 1).reshape(-1, channels) @ weight.permute(0, 2, 3, 1).reshape(channels, -1)
        pixels = pixels.reshape(batch, height, width, 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
        return pixels.reshape(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)
    pixels = weight.reshape(channels, -1).T @ image.reshape(batch, channels, -1)
    pixels = pixels.reshape(batch, -1, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return pixels.reshape(batch, -1, 2 * height, 2 * width)


def _mix(image: Tensor, weight: Tensor, bias: Tensor, channels_last: bool) -> Tensor:
    """Convolution by 1 x 1; on a CPU as a matrix product, 10 to 20 times faster for few channels."""
    if image.device.type != "cpu":
        return F.conv2d(image, weight, bias)
    if channels_last:
        return (image.permute(0, 2, 3, 1) @ weight[:, :, 0, 0].T + bias).permute(0, 3, 1, 2)
    batch, _, height, width = image.shape
    pixels = weight[:, :, 0, 0] @ image.reshape(batch, image.shape[1], -1)
    return (pixels + bias[:, None]).reshape(batch, -1, height, width)
