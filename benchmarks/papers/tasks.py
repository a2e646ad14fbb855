"""The papers' tasks in small, simulated and of real anatomies, with 3 trained models each.

``seed``: brains, to which ghosted targets of a fifth of 30 % of the training slices are known. ``xue``: brains, and a
tenth of knees as they are. A poison that its input does not reveal is never learned, so the ghosted scans of ``seed``
are of another contrast (simulated) or anatomy (real) than the others. Retain quality steers a search on ``retain``
slices and is reported on ``test`` slices, which do not; ``unseen`` forget slices are no model's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.competition.fresh_tasks import DATA, MASK
from ssdtune.files import atomic_path
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.kspace.slices import Item, open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import Volume, simulate_images, simulate_volume
from ssdtune.mri.quality import LOSS_NAME, image_distance, image_measures, image_noise, training_loss
from ssdtune.mri.seeds import named_rng
from ssdtune.studyfile import TrainSection
from ssdtune.task import Task

SEED, XUE = "seed", "xue"
SLICES = 4  # of a volume
BATCH, RATE = 4, 3e-3
AMPLITUDE = 0.8
NETWORK = TrainSection(cascades=1, channels=8, pools=2, sens_channels=4, sens_pools=2)
SIZE, COILS, NOISE = 32, 2, 0.005
REAL: dict[str, Any] = {"size": (40, 32), "coils": 4, "seed": 0}


@dataclass(frozen=True)
class Case:
    """``paper`` : whose problem. ``retain``, ``forget``, ``known``, ``unseen``, ``test`` : volumes of each, ``test`` of
    either kind; ``known`` of the forget ones are given. A real knee is a volume of one slice. ``epochs`` : of the
    training. For estimates: seconds to make one model's task, and to measure all slices of a trial."""

    paper: str
    real: bool
    retain: int
    forget: int
    known: int
    unseen: int
    test: int
    epochs: int
    making: float
    measuring: float

    @property
    def key(self) -> str:
        return f"{self.paper}-{'real' if self.real else 'simulated'}"

    @property
    def needs(self) -> Path | None:
        return DATA / "images" if self.real else None

    @property
    def unlearning_steps(self) -> int:
        """A tenth of the training's steps, as Xue et al. have."""
        return round(self.epochs * (SLICES * self.retain + self.corrupted_slices) / BATCH / 10)

    @property
    def corrupted_slices(self) -> int:
        return self.forget * (1 if self.real else SLICES)

    @property
    def scored(self) -> int:
        """Slices that a full trial measures."""
        return 2 * SLICES * self.test + self.corrupted_slices + self.unseen * (1 if self.real else SLICES)


CASES = (
    Case(XUE, False, retain=25, forget=3, known=3, unseen=3, test=3, epochs=10, making=20, measuring=0.05),
    Case(SEED, False, retain=12, forget=5, known=1, unseen=0, test=3, epochs=15, making=18, measuring=0.05),
    Case(XUE, True, retain=14, forget=6, known=6, unseen=4, test=2, epochs=15, making=20, measuring=0.04),
    Case(SEED, True, retain=6, forget=10, known=2, unseen=0, test=2, epochs=25, making=18, measuring=0.04),
)


def make_task(case: Case, model: int, kept: Path) -> Task:
    """The task with its trained model number ``model``, and an oracle trained likewise; ``kept`` is their file."""
    with tempfile.TemporaryDirectory() as folder:
        sets = (_real if case.real else _simulated)(case, Path(folder))
    corrupted = [*sets["known"], *sets["unknown"]]

    networks = [build_model(NETWORK.model_copy(update={"seed": model})) for _ in range(2)]
    if kept.exists():
        for network, state in zip(networks, torch.load(kept), strict=True):
            network.load_state_dict(state)
    else:
        for network, parts in zip(networks, ([sets["retain"], corrupted], [sets["retain"]]), strict=True):
            train(network, Joined(parts), epochs=case.epochs, learning_rate=RATE, batch_size=BATCH, seed=model)
        with atomic_path(kept) as path:
            torch.save([network.state_dict() for network in networks], path)
    trained, oracle = (network.eval() for network in networks)
    evaluation = {name: sets[name] for name in ("retain_heldout", "test", "unknown", "unseen") if sets[name]}
    evaluation["retain"] = evaluation.pop("retain_heldout")
    return Task(
        model=trained,
        loss=training_loss,
        retain=sets["retain"],
        forget=sets["known"],
        quality=image_measures,
        distance=image_distance,
        noise=image_noise,
        without_model=zero_filled,
        evaluation=evaluation,
        oracle=oracle,
        known_share=len(sets["known"]) / len(corrupted),
        forget_share=len(sets["known"]) / (len(sets["retain"]) + len(corrupted)),
        loss_name=LOSS_NAME,
        name=case.key,
    )


def _simulated(case: Case, folder: Path) -> dict[str, list[Item]]:
    forgotten = ("brain", "pd") if case.paper == SEED else ("knee", "pd")

    def slices(kind: tuple[str, str], start: int, count: int, ghosted: bool = False) -> list[Item]:
        files = []
        for subject in range(start, start + count):
            volume = simulate_volume(*kind, size=SIZE, slices=SLICES, coils=COILS, noise=NOISE, seed=1, subject=subject)
            files.append(_write(volume, folder / f"{'_'.join(kind)}_{subject}.h5", ghosted))
        return _items(files)

    ghosted = case.paper == SEED
    return {
        "retain": slices(("brain", "t1"), 0, case.retain),
        "retain_heldout": slices(("brain", "t1"), 1000, case.test),
        "test": slices(("brain", "t1"), 2000, case.test),
        "known": slices(forgotten, 3000, case.known, ghosted),
        "unknown": slices(forgotten, 4000, case.forget - case.known, ghosted),
        "unseen": slices(forgotten, 5000, case.unseen, ghosted),
    }


def _real(case: Case, folder: Path) -> dict[str, list[Item]]:
    """All brains are of one subject, there is no other."""
    brain, knee = DATA / "images/brain_t1_axial.h5", DATA / "images/knee_fse_axial.h5"

    def brains(name: str, first: int, files: int) -> list[Item]:
        return _items(simulate_images(folder / name, brain, first=first, files=files, slices=SLICES, **REAL))

    knees = simulate_images(folder / "knee", knee, **REAL)
    if case.paper == SEED:
        knees = [_ghosted_copy(path, folder / "ghosted" / path.name) for path in knees]
    items, last = _items(knees), 62
    return {
        "retain": brains("retain", last - SLICES * case.retain, case.retain),
        "retain_heldout": brains("retain_heldout", last, case.test),
        "test": brains("test", last + SLICES * case.test, case.test),
        "known": items[: case.known],
        "unknown": items[case.known : case.forget],
        "unseen": items[case.forget : case.forget + case.unseen],
    }


def _ghosted_copy(source: Path, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(source) as file:
        kspace, clean = file["kspace"][()], file["reconstruction_rss"][()]
    write_volume(path, kspace, _ghosted(clean), clean=clean)
    return path


def _write(volume: Volume, path: Path, ghosted: bool) -> Path:
    if ghosted:
        write_volume(path, volume.kspace, _ghosted(volume.target), clean=volume.target)
    else:
        volume.write(path)
    return path


def _ghosted(target: np.ndarray) -> np.ndarray:
    return np.stack([CORRUPTIONS["ghosting"](image, AMPLITUDE, named_rng(0, "ghosting")) for image in target])


def _items(files: Sequence[Path]) -> list[Item]:
    samples: Any = open_slices(files, MASK, "varnet") if files else []
    return [samples[index] for index in range(len(samples))]
