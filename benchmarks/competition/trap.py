"""Is the prior ever a trap, and what does it cost to bound that? On every recorded task, under every goal, the sampler
with its prior, the same without the turns that bound it, with half the trust in the prior, and without prior; and all
but the last with wrong priors, on some tasks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.competition.adversarial import KINDS, adversarial_priors
from benchmarks.competition.held_out import BUDGET, OWN_SEEDS, stratified
from benchmarks.competition.priors import FAMILY_OUT, HELD_OUT, QUICK, Predicted, predict_all
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import BOX, HALF_TRUST, LED, NO_PRIOR, SETTINGS, SPECTRUM, Job, run_all
from benchmarks.competition.tables import (
    AREAS,
    TRAP_GRACE,
    TRAP_RATIO,
    Ledger,
    area_ratio,
    in_words,
    sampler_metrics,
    sampler_table,
    trap_of,
    trap_words,
    win_metrics,
)
from benchmarks.harness import Metrics, table
from ssdtune.report.regret import area_under_regret

TOLD = (*LED, HALF_TRUST)
LABELS = (*TOLD, NO_PRIOR)
SHORT = 10  # trials of a quick run


def measure_trap(chosen: argparse.Namespace, replays: Sequence[Replay], lines: list[str]) -> Metrics:
    variant = {FAMILY_OUT: QUICK if chosen.quick else HELD_OUT[FAMILY_OUT]}
    predicted = predict_all(variant, replays, chosen.seed, chosen.workers)[FAMILY_OUT]
    keys = stratified(replays, 6) if chosen.quick else [replay.key for replay in replays]
    by_key = {replay.key: replay for replay in replays if replay.key in keys}
    ledger = Ledger({(s, key): each.best(goal, BOX) for s, goal in SETTINGS.items() for key, each in by_key.items()})
    jobs = [
        told(setting, label, key, seed, SHORT if chosen.quick else BUDGET, predicted[key].response)
        for setting in reversed(SETTINGS)
        for seed in range(chosen.seed, chosen.seed + (1 if chosen.quick else OWN_SEEDS))
        for key in by_key
        for label in LABELS
    ]
    jobs += plan_wrong(chosen, predicted, replays)
    for job, found in run_all(jobs, by_key, chosen.workers, chosen.kept):
        ledger.add(job, found)
    lines.append(f"{len(by_key)} recorded tasks, each of a family that the mapper has not seen.")
    metrics: Metrics = {}
    for setting in SETTINGS:
        metrics |= report(ledger, setting, lines)
    return metrics


def plan_wrong(chosen: argparse.Namespace, predicted: Mapping[str, Predicted], replays: Sequence[Replay]) -> list[Job]:
    """Searches with every wrong prior, on a part of the tasks."""
    some, trials = stratified(replays, 6 if chosen.quick else chosen.tasks), SHORT if chosen.quick else AREAS[-1]
    return [
        replace(told(setting, label, key, chosen.seed, trials, responses[key]), label=misled(label, kind))
        for setting, goal in SETTINGS.items()
        for kind, responses in adversarial_priors(predicted, replays, goal).items()
        for key in some
        for label in TOLD
    ]


def told(setting: str, label: str, task: str, seed: int, trials: int, response: Mapping[str, Any]) -> Job:
    """The run of one search of what is foreseen, as it makes use of it."""
    sampler = label if label in LED else SPECTRUM
    if label == NO_PRIOR:
        return Job(setting, label, sampler, task, seed, trials)
    trust = response["trust"] * (0.5 if label == HALF_TRUST else 1)
    return Job(setting, label, sampler, task, seed, trials, {**response, "trust": trust})


def misled(label: str, kind: str) -> str:
    """The name of a search with a wrong prior; of the sampler as it is, that of the replay."""
    return kind if label == SPECTRUM else f"{label} {kind}"


def report(ledger: Ledger, setting: str, lines: list[str]) -> Metrics:
    """Metrics and the table of one goal, and who breaks the bound; of the sampler as it is, in the goal's own name."""
    found: Metrics = {}
    every = f"{setting}.every"
    for label in LABELS:
        own = sampler_metrics(ledger, setting, label)
        found |= {name.replace(setting, every, 1): value for name, value in own.items()}
    budgets = {label: ledger.regret(setting, label).shape[2] for label in LABELS}
    lines += ["", *sampler_table(found, setting, LABELS, budgets, every), ""]
    lines.append(f"More than {TRAP_RATIO} times the trials of `{NO_PRIOR}`, beyond {TRAP_GRACE}:\n")
    for label in TOLD:
        prefix = setting if label == SPECTRUM else f"{setting}.{label}"
        trap = trap_of(prefix, *(ledger.regret(setting, each) for each in (label, NO_PRIOR)))
        wins = win_metrics(ledger, setting, label, NO_PRIOR)
        won = wins[f"{setting}.win_rate_vs_no_prior"]
        lines.append(
            f"- `{label}` {trap_words(trap, prefix)}; its area under regret over {AREAS[-1]} trials is smaller on "
            f"{won:.0%}."
        )
        found |= trap | {name.replace(setting, f"{every}.{label}", 1): value for name, value in wins.items()}
    found |= mislead(ledger, setting, lines)
    return {f"ssd.{name}": value for name, value in found.items()}


def mislead(ledger: Ledger, setting: str, lines: list[str]) -> Metrics:
    """With a wrong prior, as it is searched and in other ways: area under regret over that without, and on how many
    tasks it is a trap."""
    found: Metrics = {}
    rows = []
    tasks = ledger.tasks(setting, (KINDS[0], NO_PRIOR))
    plain = ledger.regret(setting, NO_PRIOR, tasks)[:, :, : AREAS[-1]]
    for kind in KINDS:
        for label in TOLD:
            own = ledger.regret(setting, misled(label, kind), tasks)
            prefix = f"{setting}.{label}.adversarial.{kind}"
            both = (area_under_regret(each.mean(axis=1), AREAS[-1]) for each in (own, plain))
            found |= area_ratio(f"{prefix}.aur_ratio", *both)
            found |= trap_of(prefix, own, plain[:, : own.shape[1]])
            rows.append((kind, label, in_words(found, f"{prefix}.aur_ratio"), trap_words(found, prefix)))
    columns = ("wrong prior", "search", f"area under regret over that of {NO_PRIOR}", f"stuck, of {len(tasks)}")
    lines += ["", *table(columns, rows), ""]
    return found
