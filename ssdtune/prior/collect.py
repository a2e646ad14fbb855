"""Collecting experience: make every task of a collection, analyse it, and measure its response on a design.

Each finished task is a file of its own in ``FILE.parts`` until all are there and become one collection; a collection
that was stopped goes on with what is missing. Groups (a site and its tasks) run in processes of one thread each.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ssdtune.errors import DataError
from ssdtune.evaluation import evaluate
from ssdtune.fisher.analysis import FisherWarning, analyse
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.prior.experience import Experience, Rejected, load_collection, save_collection
from ssdtune.prior.making import SiteData, make_mri_task, make_site, make_vision_task
from ssdtune.prior.processes import run_in_processes
from ssdtune.prior.recipes import MriRecipe, Recipe, VisionRecipe
from ssdtune.prior.view import TaskView
from ssdtune.progress import Track, silent
from ssdtune.scoring.evaluator import Evaluator
from ssdtune.task import Task
from ssdtune.vision.forgetting import load_images

MIN_GAP = 0.05
"""Least q_forget(model) - q_forget(oracle) of a valid task (DESIGN fact 5)."""

# the design: a grid over selected fraction and depth, and settings between its nodes that test the interpolation
RHO = np.geomspace(3e-4, 0.7, 18)
KAPPA = np.array([0.01, 0.03, 0.07, 0.15, 0.3, 0.5, 0.75, 1.0])
CHECKS = 8


def collect(
    path: Path | str,
    groups: Sequence[Sequence[Recipe]],
    *,
    images: Mapping[str, Path] | None = None,
    workers: int = 1,
    track: Track = silent,
) -> tuple[int, int]:
    """Collect every recipe and write the collection; returns (valid, rejected) tasks.

    images : the ``.npz`` file of each data set that classification recipes name.

    Raises
    ------
    DataError : a data set is missing, or the collection cannot be written.
    """
    parts = Path(f"{path}.parts")
    missing = {r.dataset for group in groups for r in group if isinstance(r, VisionRecipe)} - set(images or {})
    if missing:
        raise DataError(
            f"no images of {', '.join(sorted(missing))}", path, "name their .npz files, or ask for no such task"
        )
    parts.mkdir(parents=True, exist_ok=True)
    left = [group for group in groups if any(not _part(parts, recipe).exists() for recipe in group)]
    work = partial(collect_group, parts=parts, images=dict(images or {}))
    run_in_processes(work, left, workers, track=track, description="collecting")
    records = list(_records(parts, groups))
    save_collection(path, records)
    rejected = sum(isinstance(record, Rejected) for record in records)
    return len(records) - rejected, rejected


def collect_group(group: Sequence[Recipe], parts: Path, images: Mapping[str, Path]) -> None:
    """Make and measure the tasks of one group that have no part yet; a site's oracle is trained once."""
    torch.set_num_threads(1)
    site: SiteData | None = None
    for recipe in group:
        part = _part(parts, recipe)
        if part.exists():
            continue
        started = time.perf_counter()
        if isinstance(recipe, MriRecipe):
            site = site or make_site(recipe.site)
            task = make_mri_task(recipe, site)
        else:
            task = make_vision_task(recipe, load_images(images[recipe.dataset]))
        save_collection(part, [observe(task, recipe, time.perf_counter() - started)])


def observe(task: Task, recipe: Recipe, seconds_making: float = 0.0) -> Experience | Rejected:
    """Analyse a task and measure its design, or reject it where there is nothing to forget."""
    recorded = recipe.to_json()
    assert task.oracle is not None
    before, oracle = evaluate(task), evaluate(replace(task, model=task.oracle))
    gap = before.quality("forget") - oracle.quality("forget")
    if not gap >= MIN_GAP:
        return Rejected(recipe.key, recipe.family, recorded, f"gap {gap:.4f} below {MIN_GAP}")
    started = time.perf_counter()
    analysis = _analyse(task)
    analysed = time.perf_counter()
    alpha, lam = design(analysis, recipe.key)
    evaluator = Evaluator(task)
    rows = [evaluator.measures(analysis.dampen(a, b)).summary() for a, b in zip(alpha, lam, strict=True)]
    done = time.perf_counter()
    quality = next(iter(before.values["retain"]))
    return Experience(
        key=recipe.key,
        family=recipe.family,
        recipe=recorded,
        q_retain=f"retain_{quality}",
        q_forget=f"forget_{quality}",
        baseline=before.summary(),
        oracle=oracle.summary(),
        alpha=alpha,
        lam=lam,
        measures={name: np.array([row[name] for row in rows]) for name in rows[0]},
        features=analysis.features(),
        tables=damage_tables(analysis, alpha, lam),
        seconds={"making": seconds_making, "analysis": analysed - started, "design": done - analysed},
    )


def design(analysis: FisherAnalysis, key: str) -> tuple[np.ndarray, np.ndarray]:
    """(alpha, lambda), each (n,): the grid, row by row in rho, then the checks drawn by the task's key."""
    rng = np.random.default_rng(list(key.encode()))
    rho, kappa = (axis.ravel() for axis in np.meshgrid(RHO, KAPPA, indexing="ij"))
    rho = np.append(rho, np.exp(rng.uniform(np.log(RHO[0]), np.log(RHO[-1]), CHECKS)))
    kappa = np.append(kappa, np.exp(rng.uniform(np.log(KAPPA[0]), np.log(KAPPA[-1]), CHECKS)))
    alpha = np.asarray(analysis.alpha_at(rho), float)
    return alpha, alpha * kappa


def damage_tables(analysis: FisherAnalysis, alpha: np.ndarray, lam: np.ndarray) -> dict[str, np.ndarray]:
    """Damage terms at the design (``design_*``, (n,)) and on the mapper's grid (``grid_*``, (R, K)), with its alpha."""
    view = TaskView.of(analysis)
    points = analysis.damage(alpha, lam).as_dict()
    tables = {f"grid_{name}": values for name, values in view.terms.items()}
    return {"grid_alpha": view.alpha, **tables, **{f"design_{name}": values for name, values in points.items()}}


def _analyse(task: Task) -> FisherAnalysis:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FisherWarning)  # few samples are the point of many recipes
        return analyse(task)


def _part(parts: Path, recipe: Recipe) -> Path:
    return parts / f"{recipe.key}.h5"


def _records(parts: Path, groups: Sequence[Sequence[Recipe]]) -> Iterator[Experience | Rejected]:
    for group in groups:
        for recipe in group:
            yield from load_collection(_part(parts, recipe))
