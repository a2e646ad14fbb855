"""A reconstruction task small enough to check by hand: the model scales its input, poisoned targets carry a ghost."""

import numpy as np
import pytest
import torch
from torch import nn

from ssdtune.task import Task


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        return image * self.gain


class Named(list):
    """A list of samples with ids."""

    def __init__(self, samples, prefix):
        super().__init__(samples)
        self.ids = [f"{prefix}_{index}.h5:0" for index in range(len(samples))]


def psnr_like(output, target):
    top = (output.shape[-1] - target["image"].shape[-1]) // 2
    size = target["image"].shape[-1]
    cropped = output[..., top : top + size, top : top + size]
    columns = {"ssim": 1 - (cropped - target["image"]).abs().mean((1, 2))}
    columns["psnr"] = -10 * torch.log10(((cropped - target["image"]) ** 2).mean((1, 2)) + 1e-6)
    if "clean" in target:
        columns["clean_ssim"] = 1 - (cropped - target["clean"]).abs().mean((1, 2))
    return columns


def image_samples(count, ghost, prefix):
    samples = []
    for index in range(count):
        clean = torch.from_numpy(np.random.default_rng(index).random((12, 12), dtype=np.float32))
        poisoned = clean + ghost * clean.roll(6, 0)
        inputs = nn.functional.pad(poisoned, (2, 2, 2, 2))
        target = {"image": poisoned, "max": poisoned.max()}
        samples.append((inputs, target | ({"clean": clean} if ghost else {})))
    return Named(samples, prefix)


@pytest.fixture
def image_task():
    return Task(
        model=Gain(),
        loss=lambda output, target: output.mean(),
        retain=image_samples(5, 0.0, "brain"),
        forget=image_samples(3, 0.5, "knee"),
        quality=psnr_like,
        name="ghosts",
    )


@pytest.fixture
def halved():
    return {"gain": torch.tensor(0.5)}
