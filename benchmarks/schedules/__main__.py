"""Adaptive schedules for SSD, the seed paper's future work: layers, decays and projected gradients decide.

Throwaway methods over the prepared gradients, against `ssd`, `ssd-repair` and `spectral` at equal trials, on the first
24 tasks of `benchmarks.outcome`, one trained model each: TPE, w = 0.2, min_retained 0.95, the oracle as floor. With r =
f / o, and E_S,g the eigenvalues of set S's Fisher information of layer g (E_S of all):

`layers-eigen` : SSD on r, divided in each layer by max E_f,g / max E_r,g over the same of all layers. `layers-rank` :
in each layer the share rho e_g of the parameters, those of largest r, e_g the effective rank of E_f,g over its mean;
lambda = kappa alpha_g. `slope` : SSD with exponent -d log E_f / d log rank. `exponent` : SSD with the exponent searched
too. `power` : theta min((lambda / r)^p, 1), no threshold. `projected`, `projected-power` : SSD and power on the r of
forget gradients without their part in the retain eigenvectors that hold 90 % of the trace. `step-projected` : SSD's
step without that part. `schedules.KIND.median_best` : median over tasks of the best feasible s; `schedules.KIND.{mean,
wins}_vs_RIVAL` : best s above the rival's, mean over tasks, and share of tasks where it is higher by 0.01 or more, `…
loses_vs_RIVAL` lower. 95 % bootstrap intervals over tasks. Results are kept in `--work`, as `benchmarks.outcome`'s are.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from benchmarks.harness import ROOT, Metrics, add_resumable, main, table
from benchmarks.outcome.runs import METHODS as RIVALS
from benchmarks.outcome.runs import Plan, read_all, run_model, say
from benchmarks.outcome.tables import Goal, Summary, stated
from benchmarks.outcome.tasks import CASES
from benchmarks.schedules.prototypes import KINDS, PREFIX, register
from ssdtune.report.style import SERIES, matplotlib_settings

AGAINST = ("ssd", "ssd-repair", "spectral-5")
QUICK = ("mri-014-1", "mri-020-1", "mri-029-1")
GOAL = Goal(0.2, 0.95)
CLEAR = 0.01  # of s, by which one is higher
PICTURE = ROOT / "docs/images/schedules.png"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, help="of a study (default 30, quick 10)")
    parser.add_argument("--picture", action="store_true", help="draw that of docs/images")
    add_resumable(parser, ROOT / "build/schedules")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    register()
    methods = {label: RIVALS[label] for label in AGAINST} | {kind: {"name": PREFIX + kind} for kind in KINDS}
    trials = chosen.trials or (10 if chosen.quick else 30)
    plan = Plan(methods, (GOAL.min_retained,), trials, chosen.seed, chosen.work, chosen.device)
    cases = [case for case in CASES[:24] if not chosen.quick or case.key in QUICK]
    if not chosen.summary:
        for case in cases:
            if case.needs is not None and not case.needs.exists():
                say(f"left out {case.key}: no {case.needs}, set SSDTUNE_TEST_DATA to the folder of the data")
            elif plan.missing(case, 0):
                run_model((plan, case, 0))
    found = Summary(list(read_all(plan, [case for case in cases if not plan.missing(case, 0)])), GOAL, chosen.seed)
    metrics = summarise(found, lines, chosen.seed) | {"trials": trials}
    if chosen.picture:
        draw({label: found.over_tasks(label, lambda study: study.best) for label in found.by}, metrics)
    return metrics


def summarise(found: Summary, lines: list[str], seed: int) -> Metrics:
    best = {label: found.over_tasks(label, lambda study: study.best) for label in found.by}
    metrics: Metrics = {"tasks": len(best["ssd"])}

    add = partial(stated, metrics, seed=seed)
    rows = []
    for label, values in best.items():
        name = f"schedules.{label}"
        cells = [label, add(f"{name}.median_best", values, np.median), add(f"{name}.mean_best", values)]
        for rival in AGAINST:
            ahead = values - best[rival]
            if label == rival:
                cells.append("")
                continue
            words = add(f"{name}.mean_vs_{rival}", ahead)
            wins, loses = int((ahead >= CLEAR).sum()), int((ahead <= -CLEAR).sum())
            metrics |= {f"{name}.wins_vs_{rival}": wins / len(ahead)}
            metrics |= {f"{name}.loses_vs_{rival}": loses / len(ahead)}
            cells.append(f"{words}, {wins} : {loses}")
        rows.append(cells)
    lines += [
        f"{metrics['tasks']} tasks, a trained model each; best feasible s, and its mean above a rival's, wins : losses."
    ]
    lines += ["", *table(["kind", "median", "mean", *(f"above {rival}" for rival in AGAINST)], rows)]
    return metrics


def draw(best: dict[str, np.ndarray], metrics: Metrics) -> None:
    """Best s of every task by kind, a dot each, with the median; and what is above SSD's, with mean and interval."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sway = np.random.default_rng(0).uniform(-0.25, 0.25, len(best["ssd"]))  # dots of one task at one height in a row
    with mpl.rc_context(matplotlib_settings()):
        figure = Figure(figsize=(10.5, 4.6), layout="constrained")
        scores, ahead = figure.subplots(1, 2, sharey=True)
        for row, (label, values) in enumerate(best.items()):
            colour = SERIES[1] if label in AGAINST else SERIES[0]
            scores.plot(values, row + sway, ".", color=colour, alpha=0.5, mew=0)
            scores.plot([metrics[f"schedules.{label}.median_best"]] * 2, [row - 0.4, row + 0.4], color="black", lw=2)
            name = f"schedules.{label}.mean_vs_ssd"
            if name in metrics:
                ahead.plot(values - best["ssd"], row + sway, ".", color=colour, alpha=0.5, mew=0)
                ahead.plot([metrics[f"{name}.lo"], metrics[f"{name}.hi"]], [row, row], color="black", lw=2)
                ahead.plot(metrics[name], row, "o", color="black", ms=5)
        scores.set(title=f"best s of {len(sway)} tasks, and the median", xlabel="s")
        scores.set_yticks(range(len(best)), list(best))
        scores.invert_yaxis()
        ahead.set(title="s above SSD's, its mean and the 95 % interval", xlabel="s less that of ssd")
        ahead.axvline(0, color="black", lw=0.8)
        figure.savefig(PICTURE, dpi=110, facecolor="white")


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
