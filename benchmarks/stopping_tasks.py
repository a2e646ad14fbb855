"""Records per-slice qualities of small tasks: what the stopping rule is tested on, `tests/objective/data/slices.npz`.

`python -m benchmarks.stopping_tasks FILE`. Ten simulated VarNet tasks of all corruptions (40 scored slices a set,
the retain ones of 5 volumes) and, where `SSDTUNE_TEST_DATA` holds the images, three classifiers (60 samples a set),
as far as there is something to forget. Of each: the untouched model and 12 SSD settings of 40 drawn ones, the six
best under the default goal, the best first, and six spread over the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssdtune.fisher.analysis import analyse
from ssdtune.learning.making import make_mri_task, make_site, make_vision_task
from ssdtune.learning.recipes import WIDE_SITES, Recipe, draw_mri, draw_site, draw_vision
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.score import ScoreRule
from ssdtune.task import Samples, Task
from ssdtune.vision.forgetting import load_images

SETS = ("retain", "forget")
DRAWN, KEPT = 40, 12


def mri_tasks(count: int = 10) -> Iterator[tuple[Recipe, Task]]:
    for number in range(count):
        site = replace(draw_site(WIDE_SITES + number), subjects=5, slices=8, epochs=12, cascades=1, size=32)
        recipe = replace(draw_mri(site, number), poisoned_share=0.5, known_share=1.0, amplitude=0.8)
        yield recipe, make_mri_task(recipe, make_site(site))


def vision_tasks(folder: Path, count: int = 3) -> Iterator[tuple[Recipe, Task]]:
    for number in range(count):
        recipe = replace(
            draw_vision(2 * number), train_size=1000, forget_share=0.08, known_share=1.0, width=6, epochs=8
        )
        task = make_vision_task(recipe, load_images(folder / "mnist_24k.npz"))
        evaluation = {name: _first(samples) for name, samples in task.evaluation.items()}
        yield recipe, replace(task, retain=_first(task.retain), forget=_first(task.forget), evaluation=evaluation)


def _first(samples: Samples, most: int = 60) -> Samples:
    return [samples[index] for index in range(min(most, len(samples)))]


def recorded(task: Task, seed: int) -> tuple[np.ndarray, np.ndarray, float] | None:
    """(1 + KEPT, n) qualities of retain and forget, the untouched model's first, and the oracle's forget quality."""
    rng = np.random.default_rng(seed)
    analysis, evaluator = analyse(task), Evaluator(task)
    before = evaluator.measures(None).values
    models = [{name: next(iter(before[name].values())) for name in SETS}]
    assert task.oracle is not None
    oracle = Evaluator(replace(task, model=task.oracle)).measures(None)
    rule = ScoreRule(models[0]["retain"].mean(), models[0]["forget"].mean(), oracle.quality("forget"))
    if rule.q_forget - rule.floor < 0.05:
        return None
    scores = []
    for _ in range(DRAWN):
        alpha = float(analysis.alpha_at(float(np.exp(rng.uniform(np.log(1e-3), np.log(0.5))))))
        params = analysis.dampen(alpha, alpha * float(np.exp(rng.uniform(np.log(0.02), 0))))
        after = evaluator.measures(params).values
        models.append({name: next(iter(after[name].values())) for name in SETS})
        score = rule(models[-1]["retain"].mean(), models[-1]["forget"].mean())
        scores.append(score.value if score.feasible else score.value - 1)
    order = 1 + np.argsort(scores)[::-1]
    chosen = [0, *order[: KEPT // 2], *order[KEPT // 2 :: max(1, (DRAWN - KEPT // 2) // (KEPT // 2))][: KEPT // 2]]
    retain, forget = (np.array([models[i][name] for i in chosen], np.float32) for name in SETS)
    return retain, forget, rule.floor


def main(path: Path) -> None:
    torch.set_num_threads(1)
    kept: dict[str, Any] = {}
    images = Path(os.environ.get("SSDTUNE_TEST_DATA", "../shared/data"))
    for made in (mri_tasks(), vision_tasks(images) if images.exists() else ()):
        for number, (recipe, task) in enumerate(made):
            found = recorded(task, number)
            print(recipe.key, recipe.family, None if found is None else [part.shape for part in found[:2]], flush=True)
            if found is not None:
                kept |= {f"{recipe.key}/{k}": v for k, v in zip((*SETS, "floor"), tuple[Any, ...](found), strict=True)}
                np.savez_compressed(path, **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
