"""Tasks other than of reconstruction: a classifier with running statistics, and one of the bare essentials."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from ssdtune.task import Task
from ssdtune.vision.forgetting import accuracy
from ssdtune.vision.resnet9 import ResNet9


def vision_task():
    """A classifier with running statistics."""
    torch.manual_seed(0)
    samples = [(torch.randn(1, 16, 16), torch.tensor(number % 3)) for number in range(9)]
    return Task(ResNet9(1, 3, width=2), cross_entropy, samples[:6], samples[6:], accuracy, name="vision")


def plain_task():
    """Of nothing but a model, a loss and samples: regression of two numbers."""
    torch.manual_seed(0)
    samples = [(torch.randn(3), torch.randn(2)) for _ in range(9)]
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return Task(model, mse_loss, samples[:6], samples[6:], lambda o, t: (-(o - t).square().mean(1)).exp(), name="plain")
