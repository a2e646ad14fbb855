"""Two digits, one of them forgotten: what the outputs no longer say, and what a probe still reads of the embedding.

A small network with a two-number embedding tells two MNIST digits apart; the training images of one are the forget set
(the corrective unlearning paper's toy, section 5.1.3, of which no code is public). Every method has the same trials of
TPE at w = 0.2 and min_retained 0.95; the oracle was trained on the kept digit alone. All figures but the score are of
held-out images: ``accuracy`` on the forgotten digit, ``retain`` on the kept one; ``probe`` and ``nearest`` are balanced
accuracies of a logistic regression and of the nearest mean on the embeddings, five-fold, where 0.5 is chance, and
``whitened`` is the probe on whitened embeddings; ``silhouette`` is that of the two digits there. ``--picture`` draws
losses, Fisher eigenvalues and embeddings of the first model.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

import ssdtune
from benchmarks.competition.fresh_tasks import DATA
from benchmarks.harness import ROOT, Metrics, kept, main, with_range
from ssdtune.errors import ConfigError
from ssdtune.report.style import FORGET, RETAIN
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.tune import unlearned_params
from ssdtune.studyfile import DEFAULT_METHOD
from ssdtune.vision.forgetting import Images, accuracy, load_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEPT, FORGOTTEN = 3, 8
METHODS = ("ssd", DEFAULT_METHOD, "ng")
PICTURE = ROOT / "docs/images/mnist_toy.png"
COLOURS = {"kept": RETAIN, "forgotten": FORGET}

Params = dict[str, torch.Tensor]


@dataclass
class Toy:
    """One trained model: its task, its losses by epoch, and the parameters of every model that is compared."""

    task: ssdtune.Task
    test: dict[str, TensorDataset]
    losses: np.ndarray
    models: dict[str, Params] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, help="of each method (default 20, quick 10)")
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/mnist_toy", metavar="DIR", help="of the results")
    parser.add_argument("--picture", type=Path, nargs="?", const=PICTURE, help=f"default {PICTURE.relative_to(ROOT)}")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    images = load_images(DATA / "mnist_24k.npz")
    trials, models = chosen.trials or (10 if chosen.quick else 20), chosen.models or (1 if chosen.quick else 3)
    work = chosen.work / ("quick" if chosen.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    found: list[Metrics] = []
    for seed in range(chosen.seed, chosen.seed + models):
        picture = chosen.picture if seed == chosen.seed else None
        make_one = partial(run, images, seed, trials, 300 if chosen.quick else 600, picture)
        found.append(kept(work / f"{trials}-{seed}.json", make_one, again=bool(picture)))
    metrics: Metrics = {"models": models, "trials": trials}
    for name in found[0]:
        metrics |= with_range(name, [each[name] for each in found])
    return metrics


def run(images: Images, seed: int, trials: int, count: int, picture: Path | None) -> Metrics:
    """One trained model, unlearned by every method."""
    toy = make(images, seed, count, 6)
    values = spectrum_of(toy)
    unlearn(toy, trials, seed)
    if picture is not None:
        draw(toy, values, picture)
    found = {
        f"mnist.{what}.{name}": value
        for name, params in toy.models.items()
        for what, value in separation(toy, params).items()
    }
    found |= {f"mnist.score.{name}": score for name, score in toy.scores.items()}
    return found | {"mnist.top_share": float(values["forget"][0] / values["forget"].sum())}


def make(images: Images, seed: int, count: int, epochs: int) -> Toy:
    """A model that was trained on ``count`` images of each digit, the oracle, and the task between them."""
    sets = {name: digit(images, label, seed, count) for name, label in (("kept", KEPT), ("forgotten", FORGOTTEN))}
    test = {name: each[1] for name, each in sets.items()}
    kept, forgotten = (sets[name][0] for name in ("kept", "forgotten"))
    model, oracle = network(seed), network(seed)
    losses = train(model, [kept, forgotten], list(test.values()), epochs, seed)
    train(oracle, [kept], [test["kept"]], epochs, seed)
    task = ssdtune.Task(
        model,
        cross_entropy,
        retain=kept,
        forget=forgotten,
        quality=accuracy,
        evaluation={"retain": test["kept"]},
        oracle=oracle,
        name=f"mnist-{KEPT}-{FORGOTTEN}",
    )
    plain = {"original": model, "oracle": oracle}
    return Toy(task, test, losses, {name: dict(each.state_dict()) for name, each in plain.items()})


def digit(images: Images, label: int, seed: int, count: int) -> tuple[TensorDataset, TensorDataset]:
    """(training, held-out) images of a digit; its class is 1 if it is to be forgotten."""
    place = np.random.default_rng(seed).permutation(np.flatnonzero(images.y_train.numpy() == label))[:count]

    def labelled(x: torch.Tensor) -> TensorDataset:
        return TensorDataset(x, torch.full((len(x),), int(label == FORGOTTEN)))

    return labelled(images.x_train[place]), labelled(images.x_test[images.y_test == label])


def network(seed: int) -> nn.Sequential:
    """Two convolutions with pooling, an embedding of two numbers, a linear head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 7 * 7, 2),
        )
        return nn.Sequential(encoder, nn.Linear(2, 2))


def train(
    model: nn.Sequential, sets: list[TensorDataset], held_out: list[TensorDataset], epochs: int, seed: int
) -> np.ndarray:
    """Train in place with Adam; (epochs, 2) mean training and validation loss."""
    order = torch.Generator().manual_seed(seed)
    loader: DataLoader[list[torch.Tensor]] = DataLoader(ConcatDataset(sets), 32, shuffle=True, generator=order)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = (torch.cat([each.tensors[place] for each in held_out]) for place in (0, 1))
    losses = []
    for _ in range(epochs):
        seen = []
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        with torch.no_grad():
            losses.append([float(np.mean(seen)), float(cross_entropy(model(x), y))])
    model.eval()
    return np.array(losses)


def spectrum_of(toy: Toy) -> dict[str, np.ndarray]:
    """Fisher eigenvalues of both sets, falling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ssdtune.analyse(toy.task, max_gram_samples=200)
    return {"forget": found.forget.spectrum.eigenvalues, "retain": found.retain.spectrum.eigenvalues}


def unlearn(toy: Toy, trials: int, seed: int) -> None:
    """The best model of every method; one that finds nothing feasible has none."""
    for method in METHODS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = ssdtune.tune(toy.task, trials, method=method, sampler="tpe", seed=seed, name=f"toy-{method}-{seed}")
            try:
                toy.models[method] = unlearned_params(study, toy.task)
                toy.scores[method] = float(study.best_value)
            except ConfigError as reason:
                print(f"{method}: {reason}")


def separation(toy: Toy, params: Params) -> dict[str, float]:
    """What the outputs say of either digit, and what can be read of the embedding."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline

    codes = embeddings(toy, params)
    x = np.concatenate(list(codes.values())).astype(np.float64)
    y = np.repeat([0, 1], [len(each) for each in codes.values()])
    right = {}
    for name, each in toy.test.items():
        with torch.no_grad():
            output = functional_call(toy.task.model, params, (each.tensors[0],))
        right[name] = float(accuracy(output, each.tensors[1]).mean())
    # whitened too, as a method may leave an embedding of any size, and thin
    whitened = make_pipeline(PCA(2, whiten=True), LogisticRegression())
    read = {"probe": LogisticRegression(), "whitened": whitened, "nearest": NearestCentroid()}
    if np.ptp(x, axis=0).max() == 0:  # one point: no centroid can be fitted
        scored = dict.fromkeys(read, 0.5) | {"silhouette": 0.0}
    else:
        scored = {
            name: float(cross_val_score(how, x, y, cv=5, scoring="balanced_accuracy").mean())
            for name, how in read.items()
        }
        scored["silhouette"] = float(silhouette_score(x, y))
    return {
        "accuracy": right["forgotten"],
        "retain": right["kept"],
        **scored,
    }


def embeddings(toy: Toy, params: Params) -> dict[str, np.ndarray]:
    """(n, 2) of the held-out images, by digit."""
    encoder = toy.task.model.get_submodule("0")
    own = {name.removeprefix("0."): value for name, value in params.items() if name.startswith("0.")}
    with torch.no_grad():
        return {name: functional_call(encoder, own, (each.tensors[0],)).numpy() for name, each in toy.test.items()}


def draw(toy: Toy, values: dict[str, np.ndarray], path: Path) -> None:
    """Losses and eigenvalues above, the embeddings of every model below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from ssdtune.report.style import matplotlib_settings

    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(3 * len(toy.models), 6.4), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.1))
        above, below = halves
        losses, spectrum = above.subplots(1, 2)
        for column, name in enumerate(("training", "validation")):
            losses.plot(np.arange(1, len(toy.losses) + 1), toy.losses[:, column], marker="o", ms=3, label=name)
        losses.set(title="Loss", xlabel="epoch", yscale="log")
        losses.legend()
        for name, colour in (("forget", COLOURS["forgotten"]), ("retain", COLOURS["kept"])):
            spectrum.plot(np.arange(1, len(values[name]) + 1), values[name], color=colour, label=f"{name} set")
        spectrum.set(title="Fisher eigenvalues of the original model", xlabel="rank", xscale="log", yscale="log")
        spectrum.legend()
        for axes, (name, params) in zip(below.subplots(1, len(toy.models)), toy.models.items(), strict=True):
            _scatter(axes, toy, name, params)
        figure.savefig(path, dpi=100, facecolor="white")


def _scatter(axes: Axes, toy: Toy, name: str, params: Params) -> None:
    for which, codes in embeddings(toy, params).items():
        label = f"{KEPT}, kept" if which == "kept" else f"{FORGOTTEN}, forgotten"
        axes.scatter(codes[:, 0], codes[:, 1], s=5, alpha=0.5, lw=0, color=COLOURS[which], label=label)
    found = separation(toy, params)
    axes.set_title(f"{name}\naccuracy {found['accuracy']:.2f}, probe {found['probe']:.2f}", fontsize=9)
    axes.tick_params(labelsize=7)
    if name == "original":
        axes.legend(fontsize=7, markerscale=2)


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
