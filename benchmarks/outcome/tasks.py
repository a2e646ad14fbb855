"""The tasks: one or two of every family of the collection, and the real anatomies; some with several trained models.

Of each family the task that is quickest to make among those with corrupted slices that are not given (`unknown`), and
five larger ones. They are drawn by number (``learning.recipes``), so that nothing has to be kept; each slice is trained
under one mask. Model 0 is trained from its site's seed, the others from other seeds, and their oracles too.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.competition.fresh_tasks import DATA, real_anatomy
from ssdtune.learning.making import SEEDS, classifiers, make_mri_task, make_site, make_vision_task
from ssdtune.learning.recipes import MriRecipe, Recipe, VisionRecipe, draw_mri, draw_site, draw_vision
from ssdtune.task import Task
from ssdtune.vision.forgetting import load_images

IMAGES = {"mnist": "mnist_24k.npz", "cifar10": "cifar10_10k.npz"}


@dataclass(frozen=True)
class Case:
    """A task by its key. ``models`` : trained models. For estimates: seconds to make one, seconds to measure a setting
    on all scored slices, and how many those are."""

    key: str
    models: int
    making: float
    measuring: float
    slices: int

    @property
    def recipe(self) -> Recipe | None:
        """How it is made; None for a real anatomy."""
        kind, *numbers = self.key.split("-")
        if kind == "real":
            return None
        if kind == "vision":
            return draw_vision(int(numbers[0]))
        return draw_mri(draw_site(int(numbers[0])), int(numbers[1]))

    @property
    def family(self) -> str:
        recipe = self.recipe
        return f"{self.key.removeprefix('real-')}/real" if recipe is None else recipe.family

    @property
    def needs(self) -> Path | None:
        """The file or folder that has to be there."""
        recipe = self.recipe
        if recipe is None:
            return DATA / "images"
        return DATA / IMAGES[recipe.dataset] if isinstance(recipe, VisionRecipe) else None


CASES = (
    Case("mri-014-1", 3, 5, 0.03, 25),
    Case("mri-020-1", 3, 6, 0.03, 25),
    Case("vision-028", 3, 10, 0.15, 700),
    Case("mri-029-1", 3, 4, 0.04, 25),
    Case("mri-022-1", 3, 10, 0.05, 26),
    Case("mri-012-1", 3, 8, 0.05, 30),
    Case("mri-030-3", 3, 7, 0.05, 25),
    Case("real-ghosting", 1, 30, 0.12, 26),
    Case("real-zipper", 1, 30, 0.12, 26),
    Case("mri-014-2", 3, 5, 0.03, 32),
    Case("mri-022-2", 1, 9, 0.05, 25),
    Case("mri-029-2", 1, 5, 0.05, 37),
    Case("mri-020-2", 1, 7, 0.05, 31),
    Case("mri-030-1", 1, 6, 0.05, 25),
    Case("mri-030-2", 1, 6, 0.05, 25),
    Case("mri-016-1", 1, 10, 0.10, 25),
    Case("mri-019-2", 1, 12, 0.08, 28),
    Case("vision-006", 1, 36, 0.22, 700),
    Case("vision-021", 1, 10, 0.25, 700),
    Case("vision-031", 1, 16, 0.22, 700),
    Case("vision-035", 1, 26, 0.21, 700),
    Case("mri-006-2", 1, 20, 0.18, 35),
    Case("mri-010-3", 1, 16, 0.10, 25),
    Case("mri-016-3", 1, 10, 0.10, 25),
    Case("mri-027-0", 1, 20, 0.12, 42),
    Case("mri-031-3", 1, 18, 0.08, 25),
)


def make_task(case: Case, model: int, device: str = "cpu") -> Task:
    """The task with its trained model number ``model``, named by its key."""
    recipe = case.recipe
    if recipe is None:
        with tempfile.TemporaryDirectory() as folder:
            options = argparse.Namespace(quick=True, seed=model)  # 40 x 32 pixels show the corruption well enough
            task = real_anatomy(Path(folder), case.key.removeprefix("real-"), options)
    elif isinstance(recipe, MriRecipe):
        task = _mri(recipe, model)
    else:
        task = _vision(recipe, model)
    return replace(task, name=case.key, device=device)


def _mri(recipe: MriRecipe, model: int) -> Task:
    recipe = replace(recipe, site=replace(recipe.site, training=model))
    return make_mri_task(recipe, make_site(recipe.site))


def _vision(recipe: VisionRecipe, model: int) -> Task:
    images = load_images(DATA / IMAGES[recipe.dataset])
    task = make_vision_task(recipe, images)
    if not model:
        return task
    network, oracle = classifiers(recipe, images, SEEDS * model + recipe.number)
    return replace(task, model=network, oracle=oracle)
