"""Train a classifier: SGD with momentum and a one-cycle learning rate (Smith & Topin 2018), seeded."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

LEARNING_RATE = 0.1  # the highest of the cycle


def train_classifier(
    model: nn.Module,
    sets: list[TensorDataset],
    *,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
) -> nn.Module:
    """Train ``model`` in place on the union of ``sets`` and return it in eval mode.

    Sample order depends on ``seed`` alone. The loss is the cross entropy.
    """
    shuffle = torch.Generator().manual_seed(seed)
    loader: DataLoader[list[torch.Tensor]] = DataLoader(
        ConcatDataset(sets), batch_size, shuffle=True, generator=shuffle
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * len(loader))
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    return model.eval()
