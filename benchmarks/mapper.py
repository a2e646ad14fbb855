"""The mapper: what was tried, by held-out log-likelihood and regret of the first trial, and how fast it is.

Every kind of predictor gets the same inputs and folds (whole families held out), and the same calibration of its
residual. `NAME.log_likelihood`: of held-out (retained, remembered), per independent setting; `NAME.SETTING`: mean
regret of the first trial, chosen among the task's recorded settings; `coverage90_*`: share of settings inside the
shipped kind's stated 90 % interval. Kinds: `shipped`: networks with a latent vector a task, and trees, in one
ensemble; `latent`: those networks alone; `bootstrap`: without the latent vector, each on its own bootstrap of tasks;
`single`: one of these, no ensemble; `trees`: a hundred finer extremely randomised trees alone, one member a tree; `gp`:
a Gaussian process of one length scale on a subset of the settings; `mean`: the mean response of the other tasks at the
same (rho, kappa); `kernel`: the responses of the 16 tasks whose features, of the eigenvalues among them, are nearest;
`narrow`: `shipped` from the small sites alone, so what a wider spread of sites is worth. `load_s`, `plane_s`: seconds
to load the bundled mapper and to predict a 64 x 64 plane, median of 5.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Metrics, main, median_seconds, show, table
from ssdtune.learning.fit import Predictor, learn_networks, predict_held_out
from ssdtune.learning.growing import ratios
from ssdtune.learning.recipes import WIDE_SITES
from ssdtune.learning.training import Recipe
from ssdtune.prior.assess import SETTINGS, Assessment, assess
from ssdtune.prior.calibration import calibrate
from ssdtune.prior.experience import BUNDLED, Experience, load_collection
from ssdtune.prior.forest import side_by_side
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.prior.points import Points, points
from ssdtune.prior.view import TaskView
from ssdtune.surrogate.belief import squash

Array = NDArray[np.float64]
Learn = Callable[[Sequence[Points]], Predictor]

NETWORKS = 2
_GP_POINTS = 1000
_NEAREST, _WIDTH = 16, 0.15  # past tasks of the task kernel; of the average along each axis


def remembered(ratio: Array, task: Points) -> Array:
    return 1 - (1 - ratio) / (1 - task.floor_ratio)


def taught(seen: Sequence[Points]) -> tuple[Array, Array]:
    """(inputs, outputs) of all settings, as the shipped trees learn them."""
    x = [side_by_side(task.local, task.global_) for task in seen]
    return np.concatenate(x), np.concatenate([ratios(task.y, task.floor_ratio) for task in seen])


def learn_trees(seed: int, seen: Sequence[Points]) -> Predictor:
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(100, min_samples_leaf=3, max_features=0.5, bootstrap=True, random_state=seed)
    forest.fit(*taught(seen))

    def predict(task: Points) -> Array:
        x = side_by_side(task.local, task.global_)
        members = np.stack([tree.predict(x) for tree in forest.estimators_])
        members[..., 1] = remembered(members[..., 1], task)
        return squash(members)

    return predict


def learn_gp(seed: int, seen: Sequence[Points]) -> Predictor:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from sklearn.preprocessing import StandardScaler

    x, y = taught(seen)
    chosen = np.random.default_rng(seed).choice(len(x), min(_GP_POINTS, len(x)), replace=False)
    scale = StandardScaler().fit(x)
    kernel = RBF(5.0) + WhiteKernel(0.01)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    process.fit(scale.transform(x[chosen]), y[chosen])

    def predict(task: Points) -> Array:
        mean = process.predict(scale.transform(side_by_side(task.local, task.global_)))
        mean[:, 1] = remembered(mean[:, 1], task)
        return squash(mean[None])

    return predict


def place(task: Points) -> Array:
    """(n, 2): (log10 rho, log10 kappa), the first two local inputs."""
    return task.local[:, :2]


def average(at: Array, places: Array, y: Array) -> Array:
    """(n, 2): the mean of responses y (m, 2) at places (m, d), near places (n, d)."""
    near = np.exp(-0.5 * (((at[:, None] - places) / _WIDTH) ** 2).sum(axis=2)) + 1e-12
    found: Array = near @ y / near.sum(axis=1, keepdims=True)
    return found


def learn_mean(seen: Sequence[Points]) -> Predictor:
    places, y = np.concatenate([place(task) for task in seen]), np.concatenate([squash(task.y) for task in seen])
    return lambda task: average(place(task), places, y)[None]


def learn_kernel(seen: Sequence[Points]) -> Predictor:
    known = np.stack([task.global_ for task in seen])
    sd = known.std(axis=0) + 1e-9

    def predict(task: Points) -> Array:
        distance = (((known - task.global_) / sd) ** 2).sum(axis=1)
        nearest = np.argsort(distance, kind="stable")[:_NEAREST]
        return np.stack([average(place(task), place(seen[i]), squash(seen[i].y)) for i in nearest])

    return predict


def learn_narrow(seed: int, recipe: Recipe, seen: Sequence[Points]) -> Predictor:
    small = [task for task in seen if not (task.key.startswith("mri") and int(task.key.split("-")[1]) < WIDE_SITES)]
    return learn_networks(small, recipe=recipe, seed=seed)


def kinds(seed: int) -> dict[str, Learn]:
    shipped = Recipe(networks=NETWORKS)
    latent = replace(shipped, trees=0)
    plain = replace(latent, latent_penalty=1e3)  # holds every latent vector at 0
    return {
        "shipped": partial(learn_networks, recipe=shipped, seed=seed),
        "latent": partial(learn_networks, recipe=latent, seed=seed),
        "bootstrap": partial(learn_bootstrap, recipe=replace(plain, networks=1), seed=seed),
        "single": partial(learn_networks, recipe=replace(plain, networks=1), seed=seed),
        "trees": partial(learn_trees, seed),
        "gp": partial(learn_gp, seed),
        "mean": learn_mean,
        "kernel": learn_kernel,
        "narrow": partial(learn_narrow, seed, shipped),
    }


def learn_bootstrap(seen: Sequence[Points], recipe: Recipe, seed: int, members: int = 8) -> Predictor:
    rng = np.random.default_rng(seed)
    drawn = [[seen[i] for i in rng.choice(len(seen), len(seen))] for _ in range(members)]
    predictors = [learn_networks(each, recipe=recipe, seed=seed + number) for number, each in enumerate(drawn)]
    return lambda task: np.concatenate([predictor(task)[:1] for predictor in predictors])


def measure(options: argparse.Namespace) -> Metrics:
    records = [record for record in load_collection(BUNDLED) if isinstance(record, Experience)]
    data = [points(record) for record in records][:: 4 if options.quick else 1]
    metrics: Metrics = {"tasks": len(data), "families": len({task.family for task in data})}
    lines = []
    for name, learn in kinds(options.seed).items():
        predicted = predict_held_out(data, learn)
        found: Assessment = assess(predicted, calibrate([task for _, task in predicted]))
        summary = found.summary()
        shown = {"log_likelihood": summary["log_likelihood"]} | {s: summary[f"{s}.regret"] for s in SETTINGS}
        metrics |= {f"{name}.{what}": value for what, value in shown.items()}
        if name == "shipped":
            metrics |= {what: value for what, value in summary.items() if what.startswith("coverage")}
        lines.append((name, *map(show, shown.values())))
        print(lines[-1], flush=True)
    print("\n".join(table(("kind", "log-likelihood", *SETTINGS), lines)))
    view = TaskView.of_experience(records[0])
    mapper = SpectrumMapper.load()
    alpha, lam = (axis.ravel() for axis in np.meshgrid(np.geomspace(0.1, 300, 64), np.geomspace(0.03, 300, 64)))
    return metrics | {
        "load_s": median_seconds(SpectrumMapper.load),
        "plane_s": median_seconds(lambda: mapper.respond(view).at(alpha, lam)),
    }


if __name__ == "__main__":
    main(__doc__ or "", measure)
