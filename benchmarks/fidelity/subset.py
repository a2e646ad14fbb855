"""How the best score and the prior move where a part of the retain set stands for the whole."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.harness import Metrics
from benchmarks.trial_cost.tasks import Case, Sizes, make_case
from ssdtune.fisher.analysis import analyse
from ssdtune.study.create import create_study
from ssdtune.study.prior import read_prior
from ssdtune.study.record import read_record
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import best_of, scored_trials
from ssdtune.studyfile import SearchSection
from ssdtune.subset import part_of

METHODS = ("ssd", "ssd-repair")
PERCENTS = (1, 5, 10, 100)
QUICK = Sizes(pixels=32, cascades=1, channels=4, pools=2, epochs=8, train=100, retain=30, forget=20)
WHOLE = Sizes(pixels=48, cascades=2, channels=6, pools=2, epochs=8, train=200, retain=60, forget=40)


@dataclass(frozen=True)
class Found:
    """What one study came to: the score of its choice, and the prior's mode (alpha, lambda) where it has one."""

    score: float
    mode: Mapping[str, float] | None


def subset(options: argparse.Namespace) -> Metrics:
    """Losses of the best score against the whole retain set's, and moves of the mode, means over tasks."""
    quiet_optuna()
    rows: list[Metrics] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 if options.quick else 4):
            case = make_case(Path(folder), QUICK if options.quick else WHOLE, options.seed + 700, number)
            rows.append(one_task(case, options.seed, trials=8 if options.quick else 24))
            print(rows[-1], file=sys.stderr, flush=True)
    return {f"subset.{name}": float(np.mean([row[name] for row in rows if name in row])) for name in rows[0]}


def one_task(case: Case, seed: int, trials: int, percents: Sequence[int] = PERCENTS) -> Metrics:
    """``P.METHOD.score_loss``, ``P.score_loss``, ``P.mode_{alpha,lambda}_decades``, and the whole's scores.

    The studies of a part are searched with another seed than those of the whole that they are compared with, so 100 %,
    which is the whole searched once more, shows what the search makes of it alone.
    """
    whole = {name: run_one(case, name, 100, seed, trials) for name in METHODS}
    found: Metrics = {f"whole.{name}.score": each.score for name, each in whole.items()}
    for percent in percents:
        parts = {name: run_one(case, name, percent, seed + 1, trials) for name in METHODS}
        losses = {name: whole[name].score - parts[name].score for name in METHODS}
        found |= {f"{percent}.{name}.score_loss": loss for name, loss in losses.items()}
        found[f"{percent}.score_loss"] = float(np.mean(list(losses.values())))
        before, after = whole["ssd"].mode, parts["ssd"].mode
        if before is not None and after is not None:
            moves = {knob: abs(np.log10(after[knob] / before[knob])) for knob in before}
            found |= {f"{percent}.mode_{knob}_decades": float(move) for knob, move in moves.items()}
    return found


def run_one(case: Case, method: str, percent: int, seed: int, trials: int) -> Found:
    """A study with the method's own sampler, whose method is given so many per cent of the retain slices."""
    task, count = case.task, max(1, round(len(case.task.retain) * percent / 100))
    task = replace(task, retain=part_of(task.retain, count, "retain"), forget_share=task.phi)
    search = SearchSection.model_validate({"trials": trials, "seed": seed})
    study = create_study(task, name=f"{method}-{percent}", method={"name": method}, search=search)
    given = Case(task, analyse(task), case.sizes)
    given.run(study)
    best, prior = best_of(scored_trials(study)), read_prior(study)
    untouched = read_record(study).rule.retain_weight  # the score of the model as it is, where nothing is better
    score = best.score.value if best is not None and best.score.feasible else untouched
    return Found(max(score, untouched), prior.prior.mode if prior is not None else None)
