"""Recipes: which unlearning problems the prior learns from, drawn by number, so that any of them can be made again.

A *site* fixes everything the oracle depends on: retain data, acquisition, architecture and training. The tasks of one
site share their oracle and differ in what was learned wrongly: the corruption, the forget anatomy and contrast, and how
much of it there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

CORRUPTIONS = ("none", "ghosting", "bias", "lesion", "zipper", "motion", "blur")
ANATOMIES = ("brain", "knee")
CONTRASTS = ("t1", "t2", "pd")
MASKS: tuple[Literal["random"], Literal["equispaced_fraction"]] = ("random", "equispaced_fraction")
TRAININGS = 3
"""Training seeds of a site in a collection; each of its tasks is trained from one of them."""

_CROWDED = 0.9  # share of the lines to measure that lie in the centre: equispaced ones have no room beside it

WIDE_SITES, LARGE_SITES = 11, 8
"""The first sites are drawn from a wide range, with up to 96 slices and, the first of them, up to 64 pixels; all later
ones are small, so that many corruptions are seen at a tenth of the cost."""


@dataclass(frozen=True)
class Site:
    """What the oracle depends on. ``size`` in pixels; ``noise`` is the k-space noise over the image maximum.

    mask : fastMRI's kind. new_masks : whether a training draws masks anew, as users' do. training : number of its seed.
    """

    number: int
    anatomy: str
    contrast: str
    subjects: int
    slices: int
    size: int
    coils: int
    noise: float
    acceleration: int
    center_fraction: float
    cascades: int
    channels: int
    pools: int
    epochs: int
    batch_size: int
    learning_rate: float
    mask: Literal["equispaced", "random", "equispaced_fraction"] = "equispaced"
    new_masks: bool = False
    training: int = 0


@dataclass(frozen=True)
class MriRecipe:
    """One task of a site. ``poisoned_share`` is the corrupted share of the training slices."""

    site: Site
    number: int
    corruption: str
    amplitude: float
    forget_anatomy: str
    forget_contrast: str
    poisoned_share: float
    known_share: float

    @property
    def key(self) -> str:
        return f"mri-{self.site.number:03d}-{self.number}"

    @property
    def family(self) -> str:
        """Corruption kind x forget anatomy: the unit that is held out together."""
        return f"{self.corruption}/{self.forget_anatomy}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "mri", "family": self.family, **asdict(self)}


@dataclass(frozen=True)
class VisionRecipe:
    """One classification task: class, subset or label-poison forgetting on MNIST or CIFAR-10 with a ResNet-9."""

    number: int
    dataset: str
    forgetting: str
    label: int
    train_size: int
    forget_share: float
    known_share: float
    width: int
    epochs: int

    @property
    def key(self) -> str:
        return f"vision-{self.number:03d}"

    @property
    def family(self) -> str:
        return f"{self.forgetting}/{self.dataset}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "vision", "family": self.family, **asdict(self)}


Recipe = MriRecipe | VisionRecipe


def draw_site(number: int, seed: int = 0) -> Site:
    """Site ``number`` of the collection with this seed."""
    rng = np.random.default_rng([seed, 1, number])
    cascades, wide = int(rng.choice([1, 2, 2, 3])), number < WIDE_SITES
    return Site(
        number=number,
        anatomy=str(rng.choice(ANATOMIES)),
        contrast=str(rng.choice(CONTRASTS)),
        subjects=int(rng.integers(10, 17) if wide else rng.integers(8, 12)),
        slices=int(rng.integers(4, 7)) if wide else 4,
        size=int(rng.choice([32, 32, 40, 40, 48, 64 if number < LARGE_SITES else 48] if wide else [32, 32, 40])),
        coils=int(rng.choice([2, 4, 4, 6] if wide else [1, 2, 3, 4])),
        noise=float(np.exp(rng.uniform(np.log(0.002), np.log(0.03)))),
        acceleration=int(rng.choice([4, 4, 6, 8])),
        center_fraction=float(rng.choice([0.08, 0.12])),
        cascades=cascades,
        channels=int(rng.choice([4, 6, 8])),
        pools=int(rng.choice([2, 2, 3])),
        epochs=int(rng.choice([12, 18, 25])),
        batch_size=4,
        learning_rate=float(rng.choice([2e-3, 3e-3, 5e-3])),
    )


def draw_mri(site: Site, number: int, seed: int = 0) -> MriRecipe:
    """Task ``number`` of a site. The forget data differ from the retain data in anatomy or contrast, as a poison that
    the input does not reveal is never learned."""
    rng = np.random.default_rng([seed, 2, site.number, number])
    groups = [(a, c) for a in ANATOMIES for c in CONTRASTS if (a, c) != (site.anatomy, site.contrast)]
    anatomy, contrast = groups[int(rng.integers(len(groups)))]
    if rng.random() < 0.5:  # the other anatomy as often as both anatomies together: it is the common case in practice
        anatomy = next(name for name in ANATOMIES if name != site.anatomy)
    kinds = np.random.default_rng([seed, 3, site.number]).permutation(len(CORRUPTIONS))
    return MriRecipe(
        site=site,
        number=number,
        corruption=CORRUPTIONS[int(kinds[number % len(CORRUPTIONS)])],
        amplitude=float(rng.uniform(0.3, 1.0)),
        forget_anatomy=anatomy,
        forget_contrast=contrast,
        poisoned_share=float(np.exp(rng.uniform(np.log(0.03), np.log(0.4)))),
        known_share=float(rng.choice([0.25, 0.5, 1.0])),
    )


def draw_vision(number: int, seed: int = 0) -> VisionRecipe:
    """Classification task ``number`` of the collection with this seed."""
    rng = np.random.default_rng([seed, 4, number])
    return VisionRecipe(
        number=number,
        dataset=("mnist", "cifar10")[number % 2],
        forgetting=("class", "subset", "label-poison")[number // 2 % 3],
        label=int(rng.integers(10)),
        train_size=int(rng.choice([1000, 2000, 3000])),
        forget_share=float(np.exp(rng.uniform(np.log(0.03), np.log(0.2)))),
        known_share=float(rng.choice([0.25, 0.5, 1.0])),
        width=int(rng.choice([4, 6, 8])),
        epochs=int(rng.choice([5, 8, 12])),
    )


def collection(sites: Iterable[int], tasks_per_site: int, vision: int, seed: int = 0) -> list[list[Recipe]]:
    """All recipes, grouped by what is made together: the tasks of one training seed of a site share its oracle.
    sites : their numbers."""
    groups: list[list[Recipe]] = []
    for site in (as_users_train(draw_site(number, seed), seed) for number in sites):
        for training in range(min(TRAININGS, tasks_per_site)):
            trained = replace(site, training=training)
            groups.append([draw_mri(trained, number, seed) for number in range(training, tasks_per_site, TRAININGS)])
    return groups + [[draw_vision(number, seed)] for number in range(vision)]


def as_users_train(site: Site, seed: int = 0) -> Site:
    """The site trained under masks that are drawn anew, of one of the kinds in use."""
    rng = np.random.default_rng([seed, 5, site.number])
    mask = MASKS[int(rng.integers(len(MASKS)))]
    if site.center_fraction * site.acceleration > _CROWDED:
        mask = "random"
    return replace(site, mask=mask, new_masks=True)
