"""A classifier without a quick form."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ssdtune.task import Task


def right(output, target):
    return (output.argmax(-1) == target).float()


def task():
    torch.manual_seed(0)
    points = [(point, torch.tensor(int(point[0] > 0))) for point in torch.randn(30, 2)]
    return Task(model=nn.Linear(2, 2), loss=cross_entropy, retain=points[:20], forget=points[20:], quality=right)
