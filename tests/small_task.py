"""A classifier of points in the plane that is to forget one of its three classes, and its Fisher diagonals."""

import time

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from ssdtune.dampening import dampen
from ssdtune.task import Task
from ssdtune.unlearning.ssd import SSDOptions, SSDUnlearner

CENTRES = torch.tensor([[2.0, 0.0], [-2.0, 1.0], [0.0, -2.5]])


def points(label, count, seed):
    generator = torch.Generator().manual_seed(seed)
    cloud = CENTRES[label] + 0.6 * torch.randn(count, 2, generator=generator)
    return [(point, torch.tensor(label)) for point in cloud]


def confidence(output, target):
    """Mean probability of the right class (smoother than an accuracy), and the accuracy."""
    right = output.softmax(-1).gather(-1, target[:, None]).squeeze(-1)
    return {"confidence": right, "accuracy": (output.argmax(-1) == target).float()}


def trained_model(samples, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 3))
    inputs, targets = (torch.stack(part) for part in zip(*samples, strict=True))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    return model


def make_task(oracle=False, kind=Task, **changes):
    retain, forget = points(0, 20, 1) + points(1, 20, 2), points(2, 12, 3)
    settings = {
        "model": trained_model(retain + forget),
        "loss": cross_entropy,
        "retain": retain,
        "forget": forget,
        "quality": confidence,
        "evaluation": {"unknown": points(2, 8, 4)},
        "oracle": trained_model(retain) if oracle else None,
        "floor": None if oracle else 0.02,
        "name": "points",
    }
    return kind(**{**settings, **changes})


class SlowTask(Task):
    """Takes its time for every batch, so that a signal arrives within a trial."""

    def predict(self, params, inputs):
        time.sleep(0.05)
        return super().predict(params, inputs)


class Diagonals:
    """Per-sample Fisher diagonals by vmap over grad: what a search needs of a Fisher analysis."""

    def __init__(self, task):
        self.params = task.params
        self.f, self.o = (self._diagonal(task, samples) for samples in (task.forget, task.retain))
        self.ratios = torch.cat([(self.f[name] / self.o[name]).flatten() for name in self.params])

    def _diagonal(self, task, samples):
        def loss(params, inputs, target):
            return task.loss(functional_call(task.model, params, (inputs[None],)), target[None])

        inputs, targets = (torch.stack(part) for part in zip(*samples, strict=True))
        gradients = vmap(grad(loss), in_dims=(None, 0, 0))(self.params, inputs, targets)
        return {name: gradient.square().mean(0) for name, gradient in gradients.items()}

    def dampen(self, alpha, lam, exponent=1.0):
        return dampen(self.params, self.f, self.o, alpha, lam, exponent)

    def selected_fraction(self, alpha):
        return float((self.ratios > alpha).float().mean())

    def alpha_at(self, rho):
        return float(self.ratios.quantile(1 - rho))


def ssd(task, analysis, **options):
    """SSD made ready with any analysis."""
    return SSDUnlearner(task, SSDOptions(**options), analysis)
