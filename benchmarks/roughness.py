"""How rough a response to SSD is: what the last hundredth of s under a constraint asks of any search.

Small recorded tasks are made again and evaluated along lines of constant kappa = lambda / alpha, 16 settings a factor
of 10 in the selected fraction rho. SSD's factor min(lambda / r, 1) jumps from 1 to kappa where a parameter's ratio
crosses alpha; only at kappa = 1 it does not. Medians over tasks:
`kappa_K.roughness`: mean |second difference| of retained along the line. `kappa_K.jump_correlation`: of the steps of
retained with the steps of the retain set's diagonal damage, which no trial is needed for. `exchange`: change of
remembered for a change of 1 in retained, between retained 0.9 and 1. `window`: by how much retained may exceed 0.95
for s to be within 0.01 of that at 0.95 on the same line (w = 0.2). `best_spread`: range over the lines of the best s
under min_retained = 0.95. `design_error`: mean |s| error of the recorded design's interpolation at these settings,
`design_error_boundary` where retained is within 0.9 to 1.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.competition.replay import Replay
from benchmarks.harness import Metrics, main
from ssdtune.fisher.analysis import FisherWarning, analyse
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.learning.making import make_mri_task, make_site
from ssdtune.learning.recipes import TRAININGS, MriRecipe, collection, draw_mri
from ssdtune.objective.evaluator import Evaluator
from ssdtune.prior.experience import BUNDLED, Experience, Rejected, load_collection
from ssdtune.surrogate.improvement import Goal
from ssdtune.task import Task

Array = NDArray[np.float64]

KAPPAS = (0.1, 0.3, 1.0)
PER_DECADE = 16
LEAST_RHO = 1e-3
GOAL = Goal(0.2, 0.95)
TASKS = ((12, 1), (14, 0), (16, 2), (19, 0), (22, 1))  # (site, number) of small sites in the bundled collection
QUICK_TASKS = TASKS[:2]


def measure(options: argparse.Namespace) -> Metrics:
    recorded = {r.key: r for r in load_collection(BUNDLED) if not isinstance(r, Rejected)}
    found = []
    for site, number in QUICK_TASKS if options.quick else TASKS:
        recipe = recipe_of(site, number)
        task = make_mri_task(recipe, make_site(recipe.site))
        found.append(one_task(task, recorded[recipe.key]))
    names = found[0].keys()
    return {"tasks": len(found), **{name: float(np.nanmedian([each[name] for each in found])) for name in names}}


def recipe_of(site: int, number: int) -> MriRecipe:
    """Of a task in the collection, whose site is trained from one of several seeds."""
    first = collection([site], TRAININGS, 0)[number % TRAININGS][0]
    assert isinstance(first, MriRecipe)
    return draw_mri(first.site, number)


def one_task(task: Task, record: Experience) -> Metrics:
    """Roughness of one task along every line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FisherWarning)
        analysis = analyse(task)
    evaluator, replay = Evaluator(task), Replay(record)
    metrics: Metrics = {}
    bests, errors, exchanges = [], [], []
    for kappa, alpha, y in lines(analysis, evaluator, record):
        damage = analysis.damage(alpha, alpha * kappa).retain_diagonal
        metrics[f"kappa_{kappa:g}.roughness"] = float(np.abs(np.diff(y[0], 2)).mean())
        steps = np.diff(y[0]), np.diff(damage)
        metrics[f"kappa_{kappa:g}.jump_correlation"] = float(np.corrcoef(*steps)[0, 1])
        s, feasible = GOAL.score(*y), GOAL.feasible(y[0])
        bests.append(s[feasible].max(initial=GOAL.untouched))
        near = (y[0] > 0.9) & (y[0] < 1)
        if near.sum() > 2:
            exchanges.append(np.polyfit(y[0, near], y[1, near], 1)[0])
        errors.append(np.stack([np.abs(s - GOAL.score(*replay.outputs(alpha, alpha * kappa))), near]))
    error, near = np.concatenate(errors, axis=1)
    exchange = float(np.median(exchanges)) if exchanges else float("nan")
    return {
        **metrics,
        "exchange": exchange,
        "window": 0.01 / ((1 - GOAL.retain_weight) * exchange - GOAL.retain_weight),
        "best_spread": float(np.ptp(bests)),
        "design_error": float(error.mean()),
        "design_error_boundary": float(error[near > 0].mean()) if near.any() else float("nan"),
    }


def lines(analysis: FisherAnalysis, evaluator: Evaluator, record: Experience) -> Iterator[tuple[float, Array, Array]]:
    """(kappa, alpha (n,), unclipped (retained, remembered) (2, n)) along each line, harsher and harsher."""
    before = evaluator.measures(None)
    count = int(PER_DECADE * np.log10(0.7 / LEAST_RHO))
    alpha = np.asarray(analysis.alpha_at(np.geomspace(LEAST_RHO, 0.7, count)))
    retain, forget, floor = before.quality("retain"), before.quality("forget"), record.floor
    for kappa in KAPPAS:
        measured = [evaluator.measures(analysis.dampen(a, a * kappa)) for a in alpha]
        retained = np.array([each.quality("retain") for each in measured]) / retain
        remembered = (np.array([each.quality("forget") for each in measured]) - floor) / (forget - floor)
        yield kappa, alpha, np.stack([retained, remembered])


if __name__ == "__main__":
    main(__doc__ or "", measure)
