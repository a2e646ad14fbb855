"""Every sampler on held-out recorded tasks: which runs there are, and the tables of what they come to."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.competition.adversarial import KINDS, adversarial_priors
from benchmarks.competition.choosers import measure_choosers
from benchmarks.competition.priors import (
    ABLATIONS,
    AVERAGE,
    FAMILY_OUT,
    FITS,
    HELD_OUT,
    QUICK,
    WHOLE,
    Json,
    Predicted,
    average_priors,
    calibration_metrics,
    predict_all,
)
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import (
    BOX,
    NO_PRIOR,
    SETTINGS,
    SPECTRUM,
    UNGUARDED,
    Job,
    progress,
    run_all,
    settings_of,
)
from benchmarks.competition.tables import (
    ABLATED,
    TRAP_GRACE,
    TRAP_RATIO,
    Ledger,
    ablation_metrics,
    adversarial_metrics,
    in_words,
    rank_metrics,
    sampler_metrics,
    sampler_table,
    trap_metrics,
    trap_words,
    win_metrics,
)
from benchmarks.harness import Metrics
from ssdtune.prior.experience import Rejected, load_collection

BUDGET, LONG, SHORT = 40, 100, 10
OWN_SEEDS = 2  # searches of our own sampler with and without its prior
RIVAL_NAMES = ("tpe", "tpe-4", "tpe-plane", "tpe-mode", "gp", "gp-plane", "cmaes", "random")
SLOW = ("gp", "gp-plane")  # one seed, and none in a quick run


def read_replays(path: Path) -> tuple[list[Replay], int]:
    """Valid tasks in order of their keys, and how many were rejected."""
    files = sorted(path.glob("*.h5")) if path.is_dir() else [path]
    records = [record for file in files for record in load_collection(file)]
    valid = [Replay(record) for record in records if not isinstance(record, Rejected)]
    return sorted(valid, key=lambda replay: replay.key), len(records) - len(valid)


def stratified(replays: Sequence[Replay], count: int) -> list[str]:
    """Keys of about ``count`` tasks, the first of every family, then the second, and so on."""
    place: dict[str, int] = {}
    order = []
    for replay in replays:
        place[replay.family] = place.get(replay.family, -1) + 1
        order.append((place[replay.family], replay.family, replay.key))
    return sorted(key for *_, key in sorted(order)[:count])


def measure_replay(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    replays, rejected = read_replays(chosen.collection)
    by_key = {replay.key: replay for replay in replays}
    some = stratified(replays, 6 if chosen.quick else chosen.tasks)
    every = some if chosen.quick else stratified(replays, max(chosen.wide, chosen.tasks))
    variants = {FAMILY_OUT: QUICK} if chosen.quick else HELD_OUT
    predicted = predict_all(variants, replays, chosen.seed, chosen.workers)
    ablated = {} if chosen.quick else ablations(replays, predicted[FAMILY_OUT], chosen.seed, chosen.workers)
    wrong = {s: adversarial_priors(predicted[FAMILY_OUT], replays, goal) for s, goal in SETTINGS.items()}
    best = {(s, key): by_key[key].best(goal, BOX) for s, goal in SETTINGS.items() for key in by_key}
    ledger = Ledger(best)
    jobs = plan(chosen, predicted, wrong, some, every)
    jobs += plan_ablations(ablated, [replay.key for replay in replays], chosen.seed)
    progress(f"{len(jobs)} runs")
    for job, found in run_all(jobs, by_key, chosen.workers, chosen.kept):
        ledger.add(job, found)
    families = {replay.family for replay in replays}
    metrics: Metrics = {"valid_tasks": len(replays), "rejected_tasks": rejected, "families": len(families)}
    metrics |= {"tasks_run": len(every), "tasks_ranked": len(some)}
    lines.append(
        f"Replay: {len(replays)} valid tasks of {len(families)} families ({rejected} rejected). Spectrum and TPE ran "
        f"on {len(every)} tasks, all samplers (and the ranks) on the same {len(some)}, spread over the families. "
        f"Seeds: {seeds(chosen, 'tpe')} for TPE, CMA-ES, random and the spectrum sampler with its prior and without, "
        f"1 for the others. Ablations: all tasks, {FITS} fits each, {ABLATED} trials, unguarded. Box alpha "
        f"{BOX.alpha}, lambda {BOX.lam}."
    )
    metrics |= interpolation(replays, lines)
    for setting in SETTINGS:
        metrics |= report(ledger, setting, KINDS, list(ablated), lines)
    metrics |= measure_choosers(replays, lambda setting, key: best[setting, key], lines)
    calibration = calibration_metrics(predicted[FAMILY_OUT])
    lines += [
        "",
        "Held-out calibration of the mapper: " + ", ".join(f"{k[12:]} {v:.3f}" for k, v in calibration.items()),
    ]
    lines += ["", *(f"- {name}: {settings_of(name)}" for name in (SPECTRUM, *RIVAL_NAMES))]
    return {prefixed(name): value for name, value in metrics.items()} | calibration


def prefixed(name: str) -> str:
    """A metric of one goal is of the method that was searched; others are of the collection."""
    return f"ssd.{name}" if any(name.startswith(f"{setting}.") for setting in SETTINGS) else name


def ablations(
    replays: Sequence[Replay], ours: Mapping[str, Predicted], seed: int, workers: int
) -> dict[str, list[Mapping[str, Json]]]:
    """Of every ablation the responses by task, of each fit; one of past responses alone is the same for all fits."""
    found: dict[str, list[Mapping[str, Json]]] = {name: [] for name in ABLATIONS}
    for fit in range(seed, seed + FITS):
        for name, tasks in predict_all(ABLATIONS, replays, fit, workers).items():
            found[name].append({key: each.response for key, each in tasks.items()})
    return found | {AVERAGE: [average_priors(ours, replays)] * FITS}


def plan_ablations(ablated: Mapping[str, Sequence[Mapping[str, Json]]], keys: Sequence[str], seed: int) -> list[Job]:
    """A short run of every ablation, fit and task, of the search with a prior alone."""
    return [
        Job(setting, name, UNGUARDED, key, seed + number, ABLATED, responses[key])
        for setting in SETTINGS
        for name, fits in ablated.items()
        for number, responses in enumerate(fits)
        for key in keys
    ]


def rivals(chosen: argparse.Namespace) -> list[str]:
    return [name for name in RIVAL_NAMES if not (chosen.quick and name in SLOW)]


def seeds(chosen: argparse.Namespace, sampler: str) -> int:
    return 1 if chosen.quick or sampler in SLOW else 2


def plan(
    chosen: argparse.Namespace,
    predicted: Mapping[str, Mapping[str, Predicted]],
    wrong: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]],
    some: Sequence[str],
    every: Sequence[str],
) -> list[Job]:
    """Every run of the competition."""
    jobs: list[Job] = []
    ours = predicted[FAMILY_OUT]
    for setting in SETTINGS:
        add = partial(Job, setting)
        for seed in range(chosen.seed, chosen.seed + (1 if chosen.quick else OWN_SEEDS)):
            jobs += [add(SPECTRUM, SPECTRUM, key, seed, BUDGET, ours[key].response) for key in every]
            jobs += [add(NO_PRIOR, SPECTRUM, key, seed, BUDGET) for key in every]
        for name, responses in wrong[setting].items():
            jobs += [add(name, SPECTRUM, key, chosen.seed, 30, responses[key]) for key in some]
        for name in predicted.keys() - {FAMILY_OUT}:
            jobs += [add(name, SPECTRUM, key, chosen.seed, SHORT, predicted[name][key].response) for key in some]
        for name in rivals(chosen):
            response = ours if name == "tpe-mode" else {}
            for key in every if name == "tpe" else some:
                known = response[key].response if response else None
                for seed in range(chosen.seed, chosen.seed + seeds(chosen, name)):
                    jobs.append(add(name, name, key, seed, LONG if name == "tpe" else BUDGET, known))
    return jobs


def interpolation(replays: Sequence[Replay], lines: list[str]) -> Metrics:
    """How far the replayed s is from the measured one at settings between the nodes."""
    metrics: Metrics = {}
    for setting in ("w0.2", "w0.5"):
        errors = np.concatenate([replay.check_errors(SETTINGS[setting]) for replay in replays])
        metrics[f"{setting}.interpolation_error_mean"] = float(errors.mean())
        metrics[f"{setting}.interpolation_error_95"] = float(np.quantile(errors, 0.95))
        lines.append(
            f"Interpolation error of s at {errors.size} settings between the nodes, {setting}: mean "
            f"{errors.mean():.4f}, median {np.median(errors):.4f}, 95 % {np.quantile(errors, 0.95):.4f}."
        )
    return metrics


def report(ledger: Ledger, setting: str, wrong: Sequence[str], ablated: Sequence[str], lines: list[str]) -> Metrics:
    """Metrics and tables of one setting: the ranked samplers and ours in other readings, then the ablation."""
    ran = ledger.labels(setting)
    ranked = [name for name in (SPECTRUM, *RIVAL_NAMES) if name in ran]
    others = [name for name in (NO_PRIOR, "kind-out", "site-out", *wrong) if name in ran]
    metrics: Metrics = {}
    for label in ran:
        metrics |= sampler_metrics(ledger, setting, label)
    words: list[str] = []
    metrics |= rank_metrics(ledger, setting, ranked, words)
    metrics |= win_metrics(ledger, setting, SPECTRUM)
    metrics |= win_metrics(ledger, setting, SPECTRUM, NO_PRIOR)
    metrics |= adversarial_metrics(ledger, setting, wrong, NO_PRIOR)
    metrics |= trap_metrics(ledger, setting, SPECTRUM, NO_PRIOR)
    budgets = {label: ledger.regret(setting, label).shape[2] for label in ran}
    lines += ["", *sampler_table(metrics, setting, [*ranked, *others], budgets), "", *words]
    ratios = ", ".join(f"{name} {metrics[f'{setting}.adversarial.{name}.aur_ratio']:.2f}" for name in wrong)
    behind = ", ".join(f"{name} {metrics[f'{setting}.adversarial.{name}.minus_tpe_30']:+.3f}" for name in wrong)
    lines.append(
        f"Wins against TPE (area under regret, 30 trials): {metrics[f'{setting}.win_rate_vs_tpe']:.0%}. Wrong priors, "
        f"area under regret over that without prior: {ratios}; regret at trial 30 minus TPE's: {behind}. "
        f"Against no prior: wins {metrics[f'{setting}.win_rate_vs_no_prior']:.0%}; more than {TRAP_RATIO} times its "
        f"trials, beyond {TRAP_GRACE}, {trap_words(metrics, setting)}."
    )
    if ablated:
        metrics |= ablation_metrics(ledger, setting, ablated, WHOLE)
        lines += ["", *sampler_table(metrics, f"{setting}, ablation", ablated, budgets, prefix=setting), ""]
        deltas = [
            f"{name} {in_words(metrics, f'{setting}.ablation.{name}.delta')}" for name in ablated if name != WHOLE
        ]
        lines.append(f"Mean regret over {ABLATED} trials minus that of {WHOLE}: {'; '.join(deltas)}.")
    return metrics
