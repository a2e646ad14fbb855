"""The networks of CycleGAN (Zhu et al., ICCV 2017, arXiv 1703.10593, sec. 7.2) for small images of one channel.

MONAI has a patch discriminator and an adversarial loss, each shorter here than its settings there, and neither this
generator nor the buffer; so PyTorch alone is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Residual generator, (batch, 1, h, w) in [-1, 1] to the same, h and w divisible by 4.

    c7s1-w, d2w, d4w, R4w times ``blocks``, u2w, uw, c7s1-1 in the words of the paper (there w = 64 and 6 or 9 blocks):
    a 7x7 convolution, two of stride 2, residual blocks, two transposed ones of stride 2, a 7x7 convolution and tanh.
    Other than there, twice what comes out is added to the input: a lesion is a small change, and the rest of the image
    need not be learned anew (as in Baumgartner et al., CVPR 2018, eq. 2). It begins as the identity.
    """

    def __init__(self, width: int = 8, blocks: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_wide(1, width), *_normed(width)]
        for inputs in (width, 2 * width):
            layers += [nn.Conv2d(inputs, 2 * inputs, 3, 2, 1), *_normed(2 * inputs)]
        layers += [_Residual(4 * width) for _ in range(blocks)]
        for inputs in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(inputs, inputs // 2, 3, 2, 1, output_padding=1), *_normed(inputs // 2)]
        last = nn.Conv2d(width, 1, 7)
        self.change = _initialised(nn.Sequential(*layers, nn.ReflectionPad2d(3), last, nn.Tanh()))
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = (x + 2 * self.change(x)).clamp(-1, 1)
        return found


def discriminator(width: int = 8, downs: int = 2) -> nn.Sequential:
    """PatchGAN (Isola et al., CVPR 2017): one number for every patch, (batch, 1, h, w) to (batch, 1, h', w').

    ``downs`` convolutions of stride 2 and two of stride 1, all 4x4 with leaky ReLU: patches of 34 pixels with 2, the
    paper's 70 with 3.
    """
    layers: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for stride in (2,) * (downs - 1) + (1,):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, 1), nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2)]
        width *= 2
    return _initialised(nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1)))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (
            [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)] for _ in range(2)
        )
        self.body = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.body(x)
        return found


def _wide(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), nn.Conv2d(inputs, outputs, 7)]


def _normed(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU()]


@torch.no_grad()
def _initialised(network: nn.Sequential) -> nn.Sequential:
    """Weights normal with a standard deviation of 0.02, as published."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.normal_(0, 0.02)
            if module.bias is not None:
                module.bias.zero_()
    return network
