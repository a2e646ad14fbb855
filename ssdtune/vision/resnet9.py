"""ResNet-9 (Page, "How to train your ResNet", 2018), the small residual network of DAWNBench, at any width."""

from __future__ import annotations

from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.body(x)
        return found


class ResNet9(nn.Module):
    """Eight convolutions and a linear head; ``width`` 64 is the original, 8 suits a CPU.

    Input (batch, channels, height, width) with sides of at least 16 pixels; output (batch, classes) logits.
    """

    def __init__(self, channels: int = 3, classes: int = 10, width: int = 64) -> None:
        super().__init__()
        self.stem = _convolution(channels, width)
        self.stage1 = nn.Sequential(_convolution(width, 2 * width, pool=True), _Residual(2 * width))
        self.stage2 = _convolution(2 * width, 4 * width, pool=True)
        self.stage3 = nn.Sequential(_convolution(4 * width, 8 * width, pool=True), _Residual(8 * width))
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        return found
