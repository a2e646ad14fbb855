"""Tasks unlike the collection: real anatomies, real k-space of another contrast, CIFAR-10, a VarNet 10x larger."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from torch import nn

from benchmarks.harness import ROOT
from ssdtune.learning.making import make_mri_task, make_site, make_vision_task
from ssdtune.learning.recipes import ANATOMIES, MriRecipe, VisionRecipe, draw_site
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.fourier import fft2c, ifft2c, root_sum_of_squares
from ssdtune.mri.kspace.slices import Item, open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_images
from ssdtune.mri.quality import LOSS_NAME, image_measures, training_loss
from ssdtune.mri.seeds import named_rng
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import Task
from ssdtune.vision.forgetting import load_images

DATA = Path(os.environ.get("SSDTUNE_TEST_DATA", ROOT.parent / "shared" / "data"))
MASK = MaskSection(kind="equispaced", acceleration=4, center_fraction=0.12)
SIZE = (64, 56)
FLIPS = [(1, 1), (1, -1), (-1, 1), (-1, -1)]


def fresh_tasks(folder: Path, options: argparse.Namespace) -> Iterator[Task]:
    """The tasks one by one; those whose data are not there are left out. A quick run makes two."""
    makers: list[Callable[[], Task]] = []
    if (DATA / "images").is_dir():
        makers.append(lambda: real_anatomy(folder, "ghosting", options))
        if not options.quick:
            makers.append(lambda: real_anatomy(folder, "zipper", options))
    if (DATA / "kspace").is_dir() and not options.quick:
        makers.append(lambda: real_kspace(folder, options))
    if (DATA / "cifar10_10k.npz").exists():
        makers.append(lambda: cifar("class", options))
        if not options.quick:
            makers.append(lambda: cifar("label-poison", options))
    if not options.quick:
        makers.append(lambda: larger_varnet(options))
    for make in makers:
        yield make()


def real_anatomy(folder: Path, corruption: str, options: argparse.Namespace) -> Task:
    """Real brains are kept, real knees with corrupted targets forgotten; coils are simulated. The brains are all of one
    subject, the held-out ones too."""
    common = {"size": (40, 32) if options.quick else SIZE, "coils": 4, "seed": options.seed, "overwrite": True}
    brain, knee = DATA / "images/brain_t1_axial.h5", DATA / "images/knee_fse_axial.h5"
    retain = simulate_images(folder / "brain", brain, first=6, files=12, slices=4, **common)
    heldout = simulate_images(folder / "heldout", brain, first=62, files=4, slices=4, **common)
    knees = simulate_images(folder / "knee", knee, **common)
    poisoned = [_corrupt(path, folder / f"knee_{corruption}" / path.name, corruption) for path in knees]
    return _task(f"real-{corruption}", _items(retain), _items(heldout), _items(poisoned), 5, options)


def real_kspace(folder: Path, options: argparse.Namespace) -> Task:
    """Real multi-coil T1 k-space is kept, real T2 with ghosted targets forgotten. There is one slice a scan: flips and
    shifts of it, at 64 pixels, make the samples, so the held-out ones show the same anatomy."""
    scans = {"retain": ["brain_t1_4coil", "brain_t1_8coil_smallfov"], "forget": ["brain_t2_4coil"]}
    files = {
        (side, shift): [
            _variant(folder / "kspace", DATA / f"kspace/{name}.h5", flip, shift) for name in names for flip in FLIPS
        ]
        for side, names in scans.items()
        for shift in (-5, 0, 5)
    }
    poisoned = [
        _corrupt(path, folder / "kspace_ghosting" / path.name, "ghosting")
        for shift in (-5, 0, 5)
        for path in files["forget", shift]
    ]
    retain = [*files["retain", -5], *files["retain", 5]]
    return _task("real-kspace-t2", _items(retain), _items(files["retain", 0]), _items(poisoned), 6, options)


def cifar(forgetting: str, options: argparse.Namespace) -> Task:
    """A ResNet-9 twice as wide as any in the collection."""
    recipe = VisionRecipe(
        number=900 + options.seed,
        dataset="cifar10",
        forgetting=forgetting,
        label=3,
        train_size=1500 if options.quick else 4000,
        forget_share=0.1,
        known_share=0.5,
        width=8 if options.quick else 16,
        epochs=6 if options.quick else 12,
    )
    return _named(make_vision_task(recipe, load_images(DATA / "cifar10_10k.npz")), f"cifar10-{forgetting}")


def larger_varnet(options: argparse.Namespace) -> Task:
    """A VarNet of 10 times the parameters of the collection's largest (3 cascades, 8 channels, 3 pools)."""
    site = replace(draw_site(900 + options.seed), size=48, coils=4, cascades=6, channels=18, pools=3, epochs=12)
    anatomy = next(name for name in ANATOMIES if name != site.anatomy)
    recipe = MriRecipe(site, 0, "ghosting", 0.8, anatomy, "t2", poisoned_share=0.2, known_share=0.5)
    return _named(make_mri_task(recipe, make_site(site)), "varnet-10x")


def _task(
    name: str, retain: list[Item], heldout: list[Item], poisoned: list[Item], known: int, options: argparse.Namespace
) -> Task:
    section = TrainSection(
        cascades=2, channels=8, pools=3, sens_channels=4, sens_pools=2, epochs=8 if options.quick else 25, seed=0
    )

    def trained(sets: list[list[Item]]) -> nn.Module:
        model = build_model(section)
        train(model, Joined(sets), epochs=section.epochs, learning_rate=3e-3, batch_size=4, seed=options.seed)
        return model.eval()

    return Task(
        model=trained([retain, poisoned]),
        loss=training_loss,
        retain=retain,
        forget=poisoned[:known],
        quality=image_measures,
        evaluation={"retain": heldout, "unknown": poisoned[known:]},
        oracle=trained([retain]),
        known_share=known / len(poisoned),
        forget_share=known / (len(retain) + len(poisoned)),
        loss_name=LOSS_NAME,
        name=name,
    )


def _named(task: Task, name: str) -> Task:
    return replace(task, name=name)


def _items(files: Sequence[Path]) -> list[Item]:
    samples = open_slices(files, MASK, "varnet")
    return [samples[index] for index in range(len(samples))]


def _corrupt(source: Path, path: Path, corruption: str) -> Path:
    """The same k-space with corrupted targets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(source) as file:
        kspace, clean = file["kspace"][()], file["reconstruction_rss"][()]
    target = [CORRUPTIONS[corruption](image, 0.8, named_rng(0, corruption)) for image in clean]
    write_volume(path, kspace, np.stack(target), clean=clean)
    return path


def _variant(folder: Path, source: Path, flip: tuple[int, int], shift: int) -> Path:
    """One scan at 64 pixels, its coil images flipped and shifted alike."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{source.stem}_{FLIPS.index(flip)}_{shift}.h5"
    with h5py.File(source) as file:
        kspace = file["kspace"][()]
    h, w = kspace.shape[-2:]
    side = min(64, h, w)
    small = kspace[..., (h - side) // 2 : (h + side) // 2, (w - side) // 2 : (w + side) // 2]
    images = np.roll(ifft2c(small)[..., :: flip[0], :: flip[1]], shift, axis=-1)
    small = fft2c(images).astype(np.complex64)
    write_volume(path, small, root_sum_of_squares(small).astype(np.float32))
    return path
