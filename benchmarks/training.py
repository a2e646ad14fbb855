"""What a training trial takes beside its gradients.

`training.ratio.METHOD`: CPU time of a trial of 30 steps on 4 + 4 slices over that of the bare forward and backward
passes, those that it is billed for, of the same prepared batches through the same network. Each is timed in turn with
the other in one run, and the median of the ratios is taken. `training.worst` is the largest ratio. A VarNet that is not
trained, on slices that are noise, which makes no difference to the time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness import Metrics, main
from ssdtune.device import full_precision
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.quality import image_distance, image_measures, image_noise, training_loss
from ssdtune.progress import silent
from ssdtune.studyfile import TrainSection
from ssdtune.task import Task
from ssdtune.unlearning.method import BACKWARD, run
from ssdtune.unlearning.methods import choose_method
from ssdtune.unlearning.plan import Plan
from ssdtune.unlearning.training import Trainer

STEPS, SLICES = 30, 16
METHODS = ("ft", "ng", "ga-l1-ft", "nl-ft", "bad-teacher", "psg", "scrub", "i2i", "ct", "msg")


def measure(options: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)  # CPU time of threads that wait for each other is no work
    task, repeats = make_task(48 if options.quick else 64, options), 2 if options.quick else 5
    metrics: Metrics = {}
    for name in METHODS:
        metrics[f"training.ratio.{name}"] = ratio(task, name, repeats)
        print(f"{name}: {metrics[f'training.ratio.{name}']:.3f}", flush=True)
    return {**metrics, "training.worst": max(metrics.values())}


def ratio(task: Task, name: str, repeats: int) -> float:
    """The median over pairs of runs."""
    chosen = choose_method({"name": name})
    unlearner: Any = chosen.method.prepare(task, chosen.options, analyse=_no_analysis, track=silent)
    knobs = {knob.name: knob.clip((knob.low * knob.high) ** 0.5) for knob in chosen.method.knobs(chosen.options)}
    setting = {**knobs, "steps": STEPS}
    plan, cost = unlearner.plan(setting, 0), run(unlearner, setting, 0).cost
    bare = bare_passes(unlearner.trainer, plan, cost)
    found = [cpu_seconds(lambda: run(unlearner, setting, 0)) / cpu_seconds(bare) for _ in range(repeats)]
    return statistics.median(found)


def bare_passes(trainer: Trainer, plan: Plan, cost: float) -> Callable[[], None]:
    """Forward and backward passes of the plan's batches, and of the forget set in order for what is billed beside."""
    twin = trainer.task.twin()
    parameters = list(twin.parameters())
    streams = {term.set: trainer.stream(term.set, 0) for term in plan.terms}
    steps = []
    for step in range(plan.steps):
        now = [term for term in plan.terms if term.when is None or term.when(step)]
        steps.append([next(streams[term.set]) for term in now])
    beside = cost - BACKWARD * sum(batch.slices for batches in steps for batch in batches)
    if beside:
        steps += [[batch] for batch in trainer.in_order("forget")]

    @full_precision()
    def passes() -> None:
        for batches in steps:
            loss = torch.stack([trainer.loss(twin, batch) for batch in batches]).sum()
            torch.autograd.grad(loss, parameters, materialize_grads=True)
        if beside > BACKWARD * SLICES:
            with torch.no_grad():
                for batch in trainer.in_order("forget"):
                    trainer.output(twin, batch)

    return passes


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def make_task(pixels: int, options: argparse.Namespace) -> Task:
    """Four coils, a third of the lines."""
    generator = torch.Generator().manual_seed(options.seed)

    def sample() -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        mask = (torch.arange(pixels) % 3 == 0).view(1, 1, pixels, 1)
        centre = ((torch.arange(pixels) - pixels // 2).abs() < pixels // 12).view(1, 1, pixels, 1)
        kspace = torch.randn(4, pixels, pixels, 2, generator=generator) * (mask | centre)
        image = torch.rand(pixels, pixels, generator=generator)
        return (kspace, mask | centre, centre), {"image": image, "max": image.max()}

    cascades, channels = (1, 4) if options.quick else (2, 8)
    sizes = TrainSection(
        cascades=cascades, channels=channels, pools=3, sens_channels=4, sens_pools=2, seed=options.seed
    )
    return Task(
        model=build_model(sizes).eval(),
        loss=training_loss,
        retain=[sample() for _ in range(SLICES)],
        forget=[sample() for _ in range(SLICES)],
        quality=image_measures,
        floor=0.0,
        device=options.device,
        distance=image_distance,
        noise=image_noise,
        without_model=zero_filled,
    )


def _no_analysis() -> Any:
    raise NotImplementedError


if __name__ == "__main__":
    main(__doc__ or "", measure)
