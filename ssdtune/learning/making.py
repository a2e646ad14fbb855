"""From a recipe to a task: data, a model that has learned too much, and its oracle. All in memory, seeded by names."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from ssdtune.files import content_hash
from ssdtune.learning.recipes import MriRecipe, Site, VisionRecipe
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.kspace.slices import Item, open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.quality import LOSS_NAME, image_distance, image_measures, image_noise, training_loss
from ssdtune.mri.seeds import named_rng
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import Samples, Task
from ssdtune.vision.forgetting import Images, Split, accuracy, split
from ssdtune.vision.resnet9 import ResNet9
from ssdtune.vision.train import train_classifier

HELDOUT_SUBJECTS = 5
LEAST_CORRUPTED = 5  # slices
MOST_SAMPLES = 300  # of a classification task's sets
DRAWS = 12
"""Masks of a slice that a training goes through, where it draws them anew."""

SEEDS = 100_000
"""Between the seeds of two trainings of one site, which begin at its number."""


@dataclass(frozen=True, eq=False)
class SiteData:
    """Retain slices of a site, ``drawn`` : the same as a training sees them, and its oracle."""

    site: Site
    retain: list[Item]
    heldout: list[Item]
    drawn: Drawn
    oracle: nn.Module


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples (slices) under several draws of their masks, one list a draw; ``train`` takes the next every epoch."""

    draws: Sequence[Sequence[Item]]

    def __len__(self) -> int:
        return len(self.draws[0])

    def __getitem__(self, index: int, /) -> Item:
        return self.draws[0][index]

    def for_epoch(self, epoch: int) -> Drawn:
        return Drawn([self.draws[epoch % len(self.draws)]])

    def first(self, count: int) -> Drawn:
        return Drawn([draw[:count] for draw in self.draws])


def make_site(site: Site) -> SiteData:
    """Simulate a site's retain data and train its oracle on them."""
    retain, drawn = _slices(site, site.anatomy, site.contrast, range(site.subjects))
    heldout, _ = _slices(site, site.anatomy, site.contrast, range(1000, 1000 + HELDOUT_SUBJECTS), trained=False)
    return SiteData(site, retain, heldout, drawn, _train(site, [drawn]))


def make_mri_task(recipe: MriRecipe, data: SiteData) -> Task:
    """Simulate the forget data, train the model that learns them too, and put the task together.

    Known and unknown corrupted slices were both in the training set; only the known ones are given to SSD. Retain
    quality is measured on held-out subjects.
    """
    site = recipe.site
    share = recipe.poisoned_share
    wanted = max(LEAST_CORRUPTED, round(len(data.retain) * share / (1 - share)))
    subjects = range(2000, 2000 + -(-wanted // site.slices))
    slices, drawn = _slices(site, recipe.forget_anatomy, recipe.forget_contrast, subjects, recipe)
    corrupted = slices[:wanted]
    known = max(LEAST_CORRUPTED // 2, round(recipe.known_share * wanted))
    forget, unknown = corrupted[:known], corrupted[known:]
    return Task(
        model=_train(site, [data.drawn, drawn.first(wanted)]),
        loss=training_loss,
        retain=data.retain,
        forget=forget,
        quality=image_measures,
        evaluation={"retain": data.heldout, **({"unknown": unknown} if unknown else {})},
        oracle=data.oracle,
        known_share=known / wanted,
        forget_share=known / (len(data.retain) + wanted),
        loss_name=LOSS_NAME,
        name=recipe.key,
        distance=image_distance,
        noise=image_noise,
        without_model=zero_filled,
    )


def make_vision_task(recipe: VisionRecipe, images: Images) -> Task:
    """Train a ResNet-9 with and without the forget set. SSD and the score see at most 300 samples of each set."""
    parts = _split(recipe, images)
    model, oracle = _classifiers(recipe, images, parts, int(content_hash([recipe.key])[:8], 16))
    sets: Mapping[str, Samples] = {"retain": _first(parts.retain_heldout)}
    if parts.unknown is not None:
        sets = {**sets, "unknown": _first(parts.unknown)}
    return Task(
        model=model,
        loss=cross_entropy,
        retain=_first(parts.retain),
        forget=_first(parts.forget),
        quality=accuracy,
        evaluation=sets,
        oracle=oracle,
        known_share=recipe.known_share,
        forget_share=len(parts.forget) / recipe.train_size,
        name=recipe.key,
    )


def classifiers(recipe: VisionRecipe, images: Images, seed: int) -> tuple[nn.Module, nn.Module]:
    """Another (model, oracle) of a recipe, trained from ``seed``."""
    return _classifiers(recipe, images, _split(recipe, images), seed)


def _slices(
    site: Site, anatomy: str, contrast: str, subjects: range, recipe: MriRecipe | None = None, *, trained: bool = True
) -> tuple[list[Item], Drawn]:
    """Simulated slices as samples, through real files, under fixed masks and as a training draws them; with a recipe
    their targets are corrupted."""
    mask = MaskSection(kind=site.mask, acceleration=site.acceleration, center_fraction=site.center_fraction)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for subject in subjects:
            volume = simulate_volume(
                anatomy,
                contrast,
                size=site.size,
                slices=site.slices,
                coils=site.coils,
                noise=site.noise,
                seed=site.number,
                subject=subject,
            )
            path = Path(folder) / f"{anatomy}_{contrast}_{subject}.h5"
            if recipe is None or recipe.corruption == "none":
                volume.write(path)
            else:
                corrupt = CORRUPTIONS[recipe.corruption]
                target = [
                    corrupt(image, recipe.amplitude, named_rng(site.number, recipe.key)) for image in volume.target
                ]
                write_volume(path, volume.kspace, np.stack(target), clean=volume.target)
            files.append(path)
        samples = open_slices(files, mask, "varnet")
        fixed = list(samples.in_order())
        if not (site.new_masks and trained):
            return fixed, Drawn([fixed])
        return fixed, Drawn([list(samples.for_epoch(epoch).in_order()) for epoch in range(min(DRAWS, site.epochs))])


def _train(site: Site, sets: list[Drawn]) -> nn.Module:
    seed = site.number + SEEDS * site.training
    section = TrainSection(
        cascades=site.cascades,
        channels=site.channels,
        pools=site.pools,
        sens_channels=4,
        sens_pools=2,
        seed=seed,
    )
    model = build_model(section)
    train(
        model,
        Joined(sets),
        epochs=site.epochs,
        learning_rate=site.learning_rate,
        batch_size=site.batch_size,
        seed=seed,
    )
    return model.eval()


def _split(recipe: VisionRecipe, images: Images) -> Split:
    return split(
        images,
        recipe.forgetting,
        label=recipe.label,
        train_size=recipe.train_size,
        forget_share=recipe.forget_share,
        known_share=recipe.known_share,
        seed=recipe.number,
    )


def _classifiers(recipe: VisionRecipe, images: Images, parts: Split, seed: int) -> tuple[nn.Module, nn.Module]:
    def trained(*sets: TensorDataset) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = ResNet9(images.channels, images.classes, recipe.width)
        return train_classifier(model, list(sets), epochs=recipe.epochs, batch_size=32, seed=seed)

    corrupted = [part for part in (parts.forget, parts.unknown) if part is not None]
    return trained(parts.retain, *corrupted), trained(parts.retain)


def _first(samples: TensorDataset) -> TensorDataset:
    return TensorDataset(*(tensor[:MOST_SAMPLES] for tensor in samples.tensors))
