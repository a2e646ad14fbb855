"""How the time of a slice grows with image size, coils and parameters."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from benchmarks.trial_cost.plain import plain_slice
from benchmarks.trial_cost.tasks import Case, Sizes
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.quality import image_measures, training_loss
from ssdtune.objective.evaluator import Evaluator
from ssdtune.studyfile import TrainSection
from ssdtune.task import Task

GRID = {
    "64px": {},
    "96px": {"pixels": 96},
    "128px": {"pixels": 128},
    "8coils": {"coils": 8},
    "4x_parameters": {"channels": 16},
    "6_cascades": {"cascades": 6},
    "128px_paper": {"pixels": 128, "channels": 18, "cascades": 12, "pools": 4},
}


def growth(options: argparse.Namespace, repeats: int = 3) -> dict[str, float]:
    """``growth.CASE.{plain,fast}_ms`` a slice, of untrained networks on random k-space held in memory."""
    found = {}
    cases = dict(list(GRID.items())[:2]) if options.quick else GRID
    for name, changes in cases.items():
        case = random_case(Sizes(**changes), 8, options.device)
        evaluator = Evaluator(case.task)
        plain, fast = [], []
        for repeat in range(repeats + 1):
            started = time.perf_counter()
            with torch.no_grad():
                for sample in case.task.retain:  # type: ignore[attr-defined]
                    plain_slice(case, case.task.model, sample)
            between = time.perf_counter()
            measured = evaluator.start({k: v * 0.99 for k, v in case.task.params.items()})
            measured.extend("retain", 8)
            if repeat:
                plain.append(between - started)
                fast.append(time.perf_counter() - between)
        found[f"growth.{name}.plain_ms"] = 1e3 * float(np.median(plain)) / 8
        found[f"growth.{name}.fast_ms"] = 1e3 * float(np.median(fast)) / 8
    return found


def random_case(sizes: Sizes, count: int, device: str, height: int = 0, sens: tuple[int, int] = (4, 2)) -> Case:
    """An untrained network and random k-space of these sizes; ``height`` rows where not square."""
    section = TrainSection(
        cascades=sizes.cascades,
        channels=sizes.channels,
        pools=sizes.pools,
        sens_channels=sens[0],
        sens_pools=sens[1],
    )
    generator = torch.Generator().manual_seed(0)
    height, width = height or sizes.pixels, sizes.pixels
    acs = torch.zeros(1, 1, width, 1, dtype=torch.bool)
    acs[:, :, width // 2 - width // 25 : width // 2 + width // 25] = True
    mask = acs.clone()
    mask[:, :, ::4] = True
    samples = []
    for _ in range(count):
        kspace = torch.where(mask, torch.randn(sizes.coils, height, width, 2, generator=generator), 0.0)
        target = {"image": torch.rand(height, width, generator=generator), "max": torch.tensor(1.0)}
        samples.append(((kspace, mask, acs), target))
    model = build_model(section).eval()
    task = Task(model, training_loss, samples, samples[:1], image_measures, floor=0.0, device=device)
    return Case(task, None, sizes)  # type: ignore[arg-type]  # no analysis is needed
