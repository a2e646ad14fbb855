"""A study's task in the least size there is: what a method does is counted on it, where the task itself would take
hours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ssdtune.mri.kspace.slices import Item, KspaceSlices
from ssdtune.mri.networks.models import build_model
from ssdtune.studyfile import TrainSection
from ssdtune.task import Task

if TYPE_CHECKING:
    from ssdtune.mri.networks.models import Architecture

MOST = 32
"""Slices of a set: more than any method's batch takes by default."""

_SIDE = 16  # pixels: what fastMRI's networks pad to


def stand_in(task: Task) -> Task:
    """A study's task with the smallest network of its kind and as many slices of noise, at most ``MOST`` of each set.

    A method's slice passes are counted on it as on the task; what goes over all slices of larger sets is counted low.
    """
    assert isinstance(task.retain, KspaceSlices)
    architecture = task.retain.architecture
    network = TrainSection(architecture=architecture, cascades=1, channels=1, pools=1, sens_channels=1, sens_pools=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(network)
        sets = [[_item(architecture) for _ in range(min(len(s), MOST))] for s in (task.retain, task.forget)]
    return replace(
        task,
        model=model,
        oracle=model if task.oracle is not None else None,
        retain=sets[0],
        forget=sets[1],
        evaluation={},
        floor_sources={},
    )


def _item(architecture: Architecture) -> Item:
    """A slice as ``KspaceSlices`` gives it."""
    image = torch.rand(_SIDE, _SIDE)
    target = {"image": image, "max": torch.tensor(1.0)}
    if architecture == "unet":
        scale = {"mean": torch.tensor(0.0), "std": torch.tensor(1.0)}
        return (image, *scale.values()), target | scale
    lines = torch.ones(1, 1, _SIDE, 1, dtype=torch.bool)
    return (torch.rand(2, _SIDE, _SIDE, 2), lines, lines), target
