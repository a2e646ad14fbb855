"""Five requests to forget, one after the other, against all at once: do earlier ones stay forgotten?

A small VarNet has learned brains to keep and five groups of scans with ghosted targets, each of another anatomy or
contrast. Request n forgets group n, beginning with the model that request n - 1 ended with (as `study create --from`
does); each has the same trials of TPE at w = 0.2 and min_retained 0.95 of the model that it begins with. One oracle,
trained on the brains alone, is the floor of every request: a model that still has the later groups would be a milder
one. Where a request finds nothing to forget or no feasible trial, the model stays as it is. R_g is what is remembered
of group g, (q - floor) / (q of the trained model - floor), not clipped, on the scans that were given:

`sequential.remembered_N.METHOD` : mean R of groups 1 to N after request N; `sequential.drift_N.METHOD` : mean over
groups 1 to N - 1 of R after request N less R right after the group's own request (above 0: it comes back);
`sequential.ahead_N.METHOD` : mean R of the groups whose request is still to come; `sequential.retained_N.METHOD` :
quality on held-out brains over the trained model's; `sequential.at_once_{remembered,retained}.METHOD` : all five groups
in one request, of as many trials as each of the five; `sequential.{unchanged,at_once_unchanged}.METHOD` : requests that
left the model as it was; `gap` : the least q of the trained model - floor of a group. Two remedies for what comes back,
for the default method: `-again` : the earlier groups are given again with each request; `-watched` : of the feasible
trials not the best is applied, but the one with the highest s less the most that a group has come back by. Whether the
Fisher analysis of the first model could be carried over: `sequential.carried_error_N.METHOD` : |o' - o| / |o|, o the
retain diagonal of the first model and o' that after request N; `sequential.carried_overlap_N.METHOD` : of the
parameters that SSD's published alpha of 10 selects for the next group by o or by o', the share that both do. Means over
trained models, each on scans of its own, with the lowest and the highest; results are kept one by one in `--work`.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import ssdtune
from benchmarks.competition.fresh_tasks import MASK
from benchmarks.harness import ROOT, Metrics, kept, main, with_range
from ssdtune.dampening import ratio
from ssdtune.errors import ConfigError
from ssdtune.files import atomic_path
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.slices import Item, open_slices
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.quality import LOSS_NAME, image_distance, image_measures, image_noise, training_loss
from ssdtune.mri.seeds import named_rng
from ssdtune.objective.evaluation import evaluate
from ssdtune.report.style import matplotlib_settings
from ssdtune.study.record import read_record, read_trial
from ssdtune.study.run import setting_seed
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import best_to_apply, scored_trials
from ssdtune.study.tune import prepare, unlearned_params
from ssdtune.studyfile import DEFAULT_METHOD, TrainSection
from ssdtune.task import Task
from ssdtune.unlearning.method import run as run_setting

GROUPS = (("knee", "pd"), ("brain", "t2"), ("knee", "t1"), ("brain", "pd"), ("knee", "t2"))
NAMES = tuple(f"earlier_{n}" for n in range(1, len(GROUPS) + 1))
AGAIN, WATCHED = "-again", "-watched"
METHODS = ("ssd", "ft", DEFAULT_METHOD, DEFAULT_METHOD + AGAIN, DEFAULT_METHOD + WATCHED)
SELECTED = 10.0  # alpha, as published
NETWORK = TrainSection(cascades=1, channels=8, pools=2, sens_channels=4, sens_pools=2)
SCAN: dict[str, Any] = {"size": 32, "slices": 4, "coils": 2, "noise": 0.005}
KEPT, VOLUMES, EPOCHS = 12, 2, 15  # volumes of brains and of a group
PICTURE = ROOT / "docs/images/sequential.png"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models (default 3, quick 1)")
    parser.add_argument("--trials", type=int, help="of each request (default 8, quick 6)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/sequential", metavar="DIR", help="of the results")
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")


def measure(chosen: argparse.Namespace) -> Metrics:
    torch.set_num_threads(1)
    quiet_optuna()
    work = chosen.work / ("quick" if chosen.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    trials = chosen.trials or (6 if chosen.quick else 8)
    models = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    methods = METHODS[2:] if chosen.quick else METHODS
    found = {
        method: [kept(work / f"{method}-{trials}-{s}.json", partial(run, work, s, method, trials)) for s in models]
        for method in methods
    }
    if chosen.picture:
        draw(found)
    metrics: Metrics = {"models": len(models), "trials": trials}
    for method, results in found.items():
        for name in results[0]:
            metrics |= with_range(f"sequential.{name}.{method}", [each[name] for each in results])
    return metrics


def run(work: Path, seed: int, label: str, trials: int) -> Metrics:
    """Five requests and one, by one method on one trained model."""
    task, groups = make(work / f"models{seed}.pt", seed)
    assert task.oracle is not None
    method = label.removesuffix(AGAIN).removesuffix(WATCHED)
    before, floor = (qualities(replace(task, model=model)) for model in (task.model, task.oracle))
    gaps = [before[name] - floor[name] for name in NAMES]

    def remembered(q: Metrics) -> list[float]:
        return [(q[name] - floor[name]) / gap for name, gap in zip(NAMES, gaps, strict=True)]

    def come_back(means: Metrics) -> float:
        """The most that a group so far has come back by since its own request, at least 0."""
        now = remembered({name: means[f"{name}_ssim"] for name in NAMES})
        return max([0.0, *(now[g] - row[g] for g, row in enumerate(shares))])

    found: Metrics = {}
    shares: list[list[float]] = []
    unchanged, step, first = 0, task, analysis_of(task, groups[0])
    for number, group in enumerate(groups):
        again = [item for earlier in groups[:number] for item in earlier] if label.endswith(AGAIN) else []
        step = replace(step, forget=[*again, *group], name=f"{label}-{seed}-{number + 1}")
        params = best(step, method, trials, seed, come_back if label.endswith(WATCHED) else None)
        if params is None:
            unchanged += 1
        else:
            model = step.twin()
            model.load_state_dict(params)
            step = replace(step, model=model)
        q = qualities(step)
        shares.append(remembered(q))
        found[f"retained_{number + 1}"] = q["retain"] / before["retain"]
        if number + 1 < len(groups):
            after = analysis_of(step, groups[number + 1])
            found |= {f"{name}_{number + 1}": value for name, value in carried(first, after).items()}
    found = drifts(shares) | found
    together = replace(task, forget=[item for group in groups for item in group], name=f"{method}-{seed}-all")
    params = best(together, method, trials, seed)
    q = qualities(task, params)
    found |= {"at_once_remembered": float(np.mean(remembered(q))), "at_once_retained": q["retain"] / before["retain"]}
    found |= {"unchanged": unchanged, "at_once_unchanged": int(params is None), "gap": min(gaps)}
    return found


def analysis_of(task: Task, group: Sequence[Item]) -> FisherAnalysis:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few samples
        return ssdtune.analyse(replace(task, forget=list(group)))


def carried(first: FisherAnalysis, after: FisherAnalysis) -> Metrics:
    """What becomes of ``after``'s analysis with the retain diagonal of ``first`` in place of its own."""
    old, own, f = (
        torch.from_numpy(each) for each in (first.retain.diagonal, after.retain.diagonal, after.forget.diagonal)
    )
    by_old, by_own = (ratio(f, o) > SELECTED for o in (old, own))
    either = int((by_old | by_own).sum())
    return {
        "carried_error": float((own - old).norm() / old.norm()),
        "carried_overlap": int((by_old & by_own).sum()) / either if either else 1.0,
    }


def drifts(shares: Sequence[Sequence[float]]) -> Metrics:
    """What is remembered, has come back and lies ahead, of R by (request, group), each row after that request."""
    r = np.array(shares)
    found: Metrics = {}
    for n in range(1, len(r) + 1):
        found[f"remembered_{n}"] = float(r[n - 1, :n].mean())
        if n > 1:
            found[f"drift_{n}"] = float((r[n - 1] - r.diagonal())[: n - 1].mean())
        if n < len(r):
            found[f"ahead_{n}"] = float(r[n - 1, n:].mean())
    return found


def best(
    task: Task, method: str, trials: int, seed: int, penalty: Callable[[Metrics], float] | None = None
) -> dict[str, torch.Tensor] | None:
    """The state dict of the best feasible trial, its s less ``penalty`` of its measures; None, and why, where there is
    none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            study = ssdtune.tune(task, trials, method=method, sampler="tpe", seed=seed, name=task.name)
            if penalty is None:
                return unlearned_params(study, task)
            best_to_apply(study, "")
        except ConfigError as reason:
            print(f"{task.name}: {reason}", flush=True)
            return None
    usable = [trial for trial in scored_trials(study) if trial.score.feasible and not trial.estimated]
    chosen = max(usable, key=lambda trial: trial.score.value - penalty(read_trial(trial.trial)))
    record = read_record(study)
    stage = run_setting(prepare(record, task), chosen.setting, setting_seed(record, chosen.setting))
    return task.state_dict(stage.params)


def qualities(task: Task, params: dict[str, torch.Tensor] | None = None) -> Metrics:
    """Mean SSIM by set: retain and each group."""
    means = evaluate(task, params).summary()
    return {name: means[f"{name}_ssim"] for name in ("retain", *NAMES)}


def make(file: Path, seed: int) -> tuple[Task, list[list[Item]]]:
    """The trained model and its oracle, with all five groups as scored sets; the groups."""
    with tempfile.TemporaryDirectory() as folder:
        retain = slices(Path(folder), ("brain", "t1"), seed, 0, KEPT)
        heldout = slices(Path(folder), ("brain", "t1"), seed, 1000, 3)
        groups = [slices(Path(folder), kind, seed, 2000 + 100 * n, VOLUMES, n) for n, kind in enumerate(GROUPS)]
    if not file.exists():
        states = [trained(parts, seed).state_dict() for parts in ([retain, *groups], [retain])]
        with atomic_path(file) as path:
            torch.save(states, path)
    networks = [build_model(NETWORK) for _ in range(2)]
    for network, state in zip(networks, torch.load(file), strict=True):
        network.load_state_dict(state)
    task = Task(
        model=networks[0].eval(),
        loss=training_loss,
        retain=retain,
        forget=groups[0],
        quality=image_measures,
        distance=image_distance,
        noise=image_noise,
        evaluation={"retain": heldout, **dict(zip(NAMES, groups, strict=True))},
        oracle=networks[1].eval(),
        loss_name=LOSS_NAME,
        name=f"sequential-{seed}",
    )
    return task, groups


def trained(sets: Sequence[Sequence[Item]], seed: int) -> nn.Module:
    """A small VarNet that has learned these samples."""
    network = build_model(NETWORK.model_copy(update={"seed": seed}))
    train(network, Joined(sets), epochs=EPOCHS, learning_rate=3e-3, batch_size=4, seed=seed)
    return network.eval()


def slices(
    folder: Path, kind: tuple[str, str], seed: int, first: int, count: int, ghost: int | None = None
) -> list[Item]:
    """Slices of ``count`` subjects, drawn by ``seed``; ``ghost`` numbers the fault in their targets."""
    files = []
    for subject in range(first, first + count):
        volume = simulate_volume(*kind, **SCAN, seed=seed, subject=subject)
        path = folder / f"{'_'.join(kind)}_{subject}.h5"
        if ghost is None:
            volume.write(path)
        else:
            names = ("ghosting", str(ghost))
            targets = [CORRUPTIONS["ghosting"](image, 0.8, named_rng(0, *names)) for image in volume.target]
            write_volume(path, volume.kspace, np.stack(targets), clean=volume.target)
        files.append(path)
    samples = open_slices(files, MASK, "varnet")
    return [samples[index] for index in range(len(samples))]


def draw(found: dict[str, list[Metrics]]) -> None:
    """What is remembered, has come back and is retained after each request, and by one request for all (dashed)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    titles = {"remembered": "remembered of the groups so far", "drift": "come back since", "retained": "retained"}
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(10.5, 3.4), layout="constrained")
        for axes, (what, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
            numbers = range(2 if what == "drift" else 1, len(GROUPS) + 1)
            for place, (method, results) in enumerate(found.items()):
                values = np.array([[each[f"{what}_{n}"] for n in numbers] for each in results])
                axes.plot(numbers, values.mean(0), marker="o", ms=4, color=f"C{place}", label=method)
                axes.fill_between(numbers, values.min(0), values.max(0), color=f"C{place}", alpha=0.15, lw=0)
                if what != "drift":
                    once = np.mean([each[f"at_once_{what}"] for each in results])
                    axes.axhline(once, color=f"C{place}", ls="--", lw=1)
            axes.set(title=title, xlabel="requests")
            axes.set_xticks(range(1, len(GROUPS) + 1))
        figure.axes[0].legend(title="dashed: all at once")
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
