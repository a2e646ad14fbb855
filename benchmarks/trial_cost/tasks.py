"""Unlearning tasks for the measurements of a trial's cost: simulated multi-coil slices in files, a VarNet that has
learned a corruption it should not have, and enough slices to score it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from ssdtune.fisher.analysis import analyse
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.slices import KspaceSlices, open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.quality import LOSS_NAME, image_measures, training_loss
from ssdtune.mri.seeds import named_rng
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.tune import prepare
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import Task
from ssdtune.unlearning.method import Unlearner

SLICES = 5  # of a volume
SSD = {"name": "ssd"}


@dataclass(frozen=True)
class Sizes:
    """Pixels a side, coils, the VarNet, epochs; training, scored retain and forget slices."""

    pixels: int = 64
    coils: int = 4
    cascades: int = 2
    channels: int = 8
    pools: int = 3
    epochs: int = 8
    train: int = 60
    retain: int = 200
    forget: int = 100


MAIN = Sizes(pixels=128)
QUICK = Sizes(pixels=32, cascades=1, channels=4, pools=2, train=30, retain=40, forget=20)
SMALL = Sizes(pixels=32, cascades=1, channels=4, pools=2, train=30, retain=40, forget=30)


@dataclass(frozen=True)
class Case:
    """A task with its Fisher analysis."""

    task: Task
    analysis: FisherAnalysis
    sizes: Sizes

    def unlearner(self, study: optuna.Study) -> Unlearner:
        return prepare(read_record(study), self.task, self.analysis)

    def run(self, study: optuna.Study, **options: Any) -> None:
        """``run_study`` with the analysis at hand."""
        run_study(study, self.task, self.unlearner(study), **options)


def make_case(
    folder: Path, sizes: Sizes, seed: int, number: int = 0, device: str = "cpu", random_masks: bool = False
) -> Case:
    """Retain brains, forget corrupted knees; a VarNet trained on both, scored on retain slices it has not seen.

    random_masks : train under a new mask in each epoch, not under the one of each file.
    """
    kinds = ("ghosting", "bias", "lesion", "zipper", "blur")
    kind, name = kinds[number % len(kinds)], f"task{number}"
    retain = _slices(folder / name, sizes, "brain", range(sizes.train // SLICES), seed + number)
    heldout = _slices(folder / name, sizes, "brain", range(1000, 1000 + sizes.retain // SLICES), seed + number)
    forget = _slices(folder / name, sizes, "knee", range(2000, 2000 + sizes.forget // SLICES), seed + number, kind)
    section = TrainSection(
        cascades=sizes.cascades,
        channels=sizes.channels,
        pools=sizes.pools,
        sens_channels=4,
        sens_pools=2,
        seed=seed + number,
    )
    model = build_model(section)
    both = Joined([retain, forget] if random_masks else [_held(retain), _held(forget)])
    train(model, both, epochs=sizes.epochs, learning_rate=3e-3, batch_size=4, device=device)
    task = Task(
        model=model.eval(),
        loss=training_loss,
        retain=retain,
        forget=forget,
        quality=image_measures,
        evaluation={"retain": heldout},
        floor_sources={"clean": lambda q_retain: _clean_similarity(forget) * q_retain},
        loss_name=LOSS_NAME,
        name=name,
        device=device,
    )
    return Case(task, analyse(task), sizes)


def _slices(
    folder: Path, sizes: Sizes, anatomy: str, subjects: range, seed: int, corruption: str | None = None
) -> KspaceSlices:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for subject in subjects:
        volume = simulate_volume(
            anatomy, "t1", size=sizes.pixels, slices=SLICES, coils=sizes.coils, seed=seed, subject=subject
        )
        path = folder / f"{anatomy}_{subject}.h5"
        if corruption is None:
            volume.write(path)
        else:
            corrupt = CORRUPTIONS[corruption]
            target = np.stack([corrupt(image, 0.8, named_rng(seed, corruption)) for image in volume.target])
            write_volume(path, volume.kspace, target, clean=volume.target)
        files.append(path)
    return open_slices(files, MaskSection(acceleration=4, center_fraction=0.08), "varnet")


def _held(slices: KspaceSlices) -> list[Any]:
    return [slices[index] for index in range(len(slices))]


def _clean_similarity(forget: KspaceSlices) -> float:
    from ssdtune.mri.floors import clean_similarity

    return float(clean_similarity(forget).mean())
