"""Models and data of benchmarks.fisher, and the literal code it compares with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssdtune.mri.kspace.masking import VarNetInputs
from ssdtune.mri.networks.stock import VarNetReconstructor, VarNetSizes
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.quality import training_loss
from ssdtune.studyfile import MaskSection
from ssdtune.task import Samples, Task, batches
from ssdtune.vision.resnet9 import ResNet9


def classifier_task(n: int, width: int, side: int, seed: int) -> Task:
    """A ResNet-9 in eval mode on noise images, which is enough for gradients."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, side, side, generator=generator)
    y = torch.randint(10, (n,), generator=generator)
    torch.manual_seed(seed)
    samples = list(zip(x, y, strict=True))
    return Task(
        model=ResNet9(1, 10, width),
        loss=cross_entropy,
        retain=samples[:1],
        forget=samples,
        quality=lambda output, target: (output.argmax(-1) == target).float(),
    )


def varnet_task(n: int, size: int, sizes: VarNetSizes, seed: int, coils: int = 4, device: str = "cpu") -> Task:
    """A VarNet of random weights on n simulated brain slices as forget set and as many knees as retain set."""
    torch.manual_seed(seed)
    return Task(
        model=VarNetReconstructor(sizes.net()),
        loss=training_loss,
        retain=slices("knee", n, size, coils, seed),
        forget=slices("brain", n, size, coils, seed),
        quality=lambda output, target: output.mean((-2, -1)),
        device=device,
    )


def slices(anatomy: str, n: int, size: int, coils: int, seed: int) -> Samples:
    prepare = VarNetInputs(MaskSection())
    found: list[Any] = []
    while len(found) < n:
        volume = simulate_volume(anatomy, size=size, slices=min(n, 8), coils=coils, seed=seed, subject=len(found))
        largest = float(volume.target.max())
        attributes = {"max": largest, "padding_left": 0, "padding_right": size, "recon_size": (size, size, 1)}
        for kspace, target in zip(volume.kspace, volume.target, strict=True):
            inputs = prepare(kspace, None, target, attributes, f"{anatomy}{len(found)}")
            found.append((inputs, {"image": torch.from_numpy(target), "max": torch.tensor(largest)}))
    return found[:n]


def published_importance(task: Task) -> np.ndarray:
    """(P,) importances as the SSD authors' ``calc_importance`` accumulates them, batch 1, over the forget set."""
    model: nn.Module = task.model.requires_grad_(True)
    importances: dict[str, Tensor] = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in batches(task.forget, 1, task.device):
        optimizer.zero_grad()
        task.loss(model(*batch.inputs), batch.target).backward()
        for (_, p), importance in zip(model.named_parameters(), importances.values(), strict=True):
            if p.grad is not None:
                importance.data += p.grad.data.clone().pow(2)
    for importance in importances.values():
        importance.data /= float(len(task.forget))
    model.requires_grad_(False)
    return torch.cat([importance.reshape(-1) for importance in importances.values()]).cpu().numpy()
