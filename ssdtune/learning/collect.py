"""Collecting experience: make every task of a collection, analyse it, and measure its responses on designs.

Each finished task is a file of its own in ``FILE.parts`` until all are there and become one collection; a collection
that was stopped goes on with what is missing. Groups (a site and its tasks) run in processes of one thread each.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssdtune.arrays import Array
from ssdtune.errors import DataError
from ssdtune.fisher.analysis import FisherWarning, analyse
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.learning.design import Place, checks, refine
from ssdtune.learning.making import SiteData, make_mri_task, make_site, make_vision_task
from ssdtune.learning.processes import run_in_processes
from ssdtune.learning.recipes import MriRecipe, Recipe, VisionRecipe
from ssdtune.learning.responses import SETTINGS, respond
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.score import ScoreRule
from ssdtune.plane.settings import LINE_KAPPA, LINE_RHO
from ssdtune.prior.experience import Experience, Rejected, load_collection, save_collection
from ssdtune.prior.view import TaskView, on_lines
from ssdtune.progress import Track, silent
from ssdtune.task import Task
from ssdtune.unlearning.foreseen import analysis_scales
from ssdtune.vision.forgetting import load_images

MIN_GAP = 0.05
"""Least q_forget(model) - q_forget(oracle) of a valid task."""


Gather = Callable[[Sequence[Sequence[Recipe]], Path, Mapping[str, Path], Sequence[str], Track], None]
"""Makes what is missing of some groups, with responses to some methods: each recipe's record in a file of its own in a
folder (``part_file``)."""


def collect(
    path: Path | str,
    groups: Sequence[Sequence[Recipe]],
    *,
    images: Mapping[str, Path] | None = None,
    methods: Sequence[str] = tuple(SETTINGS),
    workers: int = 1,
    gather: Gather | None = None,
    track: Track = silent,
) -> tuple[int, int]:
    """Collect every recipe and write the collection; returns (valid, rejected) tasks.

    images : the ``.npz`` file of each data set that classification recipes name. methods : whose responses are recorded
    beside SSD's. gather : in place of ``workers`` processes here, such as ``study.collect_on_ray``.

    Raises DataError: a data set is missing, or the collection cannot be written.
    """
    parts = Path(f"{path}.parts")
    missing = {r.dataset for group in groups for r in group if isinstance(r, VisionRecipe)} - set(images or {})
    if missing:
        raise DataError(
            f"no images of {', '.join(sorted(missing))}", path, "name their .npz files, or ask for no such task"
        )
    parts.mkdir(parents=True, exist_ok=True)
    left = [group for group in groups if any(not part_file(parts, recipe).exists() for recipe in group)]
    if gather is not None:
        gather(left, parts, images or {}, methods, track)
    else:
        work = partial(collect_group, parts=parts, images=dict(images or {}), methods=methods)
        run_in_processes(work, left, workers, track=track, description="collecting")
    records = [record for group in groups for recipe in group for record in load_collection(part_file(parts, recipe))]
    save_collection(path, records)
    rejected = sum(isinstance(record, Rejected) for record in records)
    return len(records) - rejected, rejected


def collect_group(group: Sequence[Recipe], parts: Path, images: Mapping[str, Path], methods: Sequence[str]) -> None:
    """Make and measure the tasks of one group that have no part yet; a site's oracle is trained once."""
    torch.set_num_threads(1)
    site: SiteData | None = None
    for recipe in group:
        part = part_file(parts, recipe)
        if part.exists():
            continue
        started = time.perf_counter()
        if isinstance(recipe, MriRecipe):
            site = site or make_site(recipe.site)
        data = site if isinstance(recipe, MriRecipe) else load_images(images[recipe.dataset])
        save_collection(part, [record_of(recipe, data, methods, started)])


def record_of(recipe: Recipe, data: Any, methods: Sequence[str], started: float | None = None) -> Experience | Rejected:
    """Make and measure a task from its site's data, or from its data set's images. started : default now."""
    started = time.perf_counter() if started is None else started
    task = make_mri_task(recipe, data) if isinstance(recipe, MriRecipe) else make_vision_task(recipe, data)
    return observe(task, recipe, time.perf_counter() - started, methods)


def observe(
    task: Task, recipe: Recipe, seconds_making: float = 0.0, methods: Sequence[str] = tuple(SETTINGS)
) -> Experience | Rejected:
    """Analyse a task and measure its designs, or reject it where there is nothing to forget."""
    recorded = recipe.to_json()
    assert task.oracle is not None
    before, oracle = evaluate(task), evaluate(replace(task, model=task.oracle))
    gap = before.quality("forget") - oracle.quality("forget")
    if not gap >= MIN_GAP:
        return Rejected(recipe.key, recipe.family, recorded, f"gap {gap:.4f} below {MIN_GAP}")
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FisherWarning)  # few samples are the point of many recipes
        analysis = analyse(task)
    analysed = time.perf_counter()
    rule = ScoreRule(before.quality("retain"), before.quality("forget"), oracle.quality("forget"))
    evaluator = Evaluator(task)
    rho, alpha, lam, rows = _measure_design(analysis, evaluator, rule, recipe.key)
    done = time.perf_counter()
    responses, tables = respond(task, analysis, evaluator, methods)
    responded = time.perf_counter()
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
        tables={"design_rho": rho, **damage_tables(analysis, alpha, lam), **tables},
        seconds={
            "making": seconds_making,
            "analysis": analysed - started,
            "design": done - analysed,
            "responses": responded - done,
        },
        responses=responses,
        scales=analysis_scales(analysis, task.name),
    )


def _measure_design(
    analysis: FisherAnalysis, evaluator: Evaluator, rule: ScoreRule, key: str
) -> tuple[Array, Array, Array, list[dict[str, float]]]:
    """(rho asked for, alpha, lambda), each (n,), and a row of measures each: the lines in order, then the checks."""
    line_alpha = np.asarray(analysis.alpha_at(LINE_RHO), float)
    measured: dict[Place, dict[str, float]] = {}

    def respond(place: Place) -> Array:
        line, node = place
        found = evaluator.measures(analysis.dampen(line_alpha[node], line_alpha[node] * LINE_KAPPA[line]))
        measured[place] = found.summary()
        score = rule(found.quality("retain"), found.quality("forget"))
        return np.array([score.retained, score.remembered])

    places = refine(respond)
    check_rho, check_kappa = checks(key)
    check_alpha = np.asarray(analysis.alpha_at(check_rho), float)
    lines, nodes = np.array(places).T
    rho, alpha = np.append(LINE_RHO[nodes], check_rho), np.append(line_alpha[nodes], check_alpha)
    lam = alpha * np.append(LINE_KAPPA[lines], check_kappa)
    rows = [measured[place] for place in places]
    rows += [
        evaluator.measures(analysis.dampen(a, b)).summary()
        for a, b in zip(check_alpha, check_alpha * check_kappa, strict=True)
    ]
    return rho, alpha, lam, rows


def damage_tables(analysis: FisherAnalysis, alpha: Array, lam: Array) -> dict[str, Array]:
    """Damage terms at the design (``design_*``, (n,)) and on the mapper's grid (``grid_*``, (R, K)), each with its
    alpha; and all along the design's lines (``line_*``, places by lines) the damages by the diagonal, in whose measure
    a response is smooth."""
    view = TaskView.on_grid(analysis)
    points = analysis.damage(alpha, lam).as_dict()
    line_alpha, along = on_lines(analysis)
    return {
        "grid_alpha": view.alpha,
        **{f"grid_{name}": values for name, values in view.terms.items()},
        **{f"design_{name}": values for name, values in points.items()},
        "line_alpha": line_alpha,
        "line_forget_diagonal": along.forget_diagonal,
        "line_retain_diagonal": along.retain_diagonal,
    }


def part_file(parts: Path, recipe: Recipe) -> Path:
    """Where a recipe's record lies until the collection is whole."""
    return parts / f"{recipe.key}.h5"
