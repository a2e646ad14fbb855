"""Forms of the spectral update that the maths suggests: what each comes to, beside the one that was kept.

Of `spectral` at one step (`t1`) and at five, the default (`t5`): `identity` in place of the Fisher diagonal, `damage`
(a trust region: steps limited by the predicted retain loss), `capped` (the ascent of a batch ends at the oracle's mean
forget loss), `half` and `tenth` (SSD's ratio as a mask: only the half or tenth of the parameters of largest f / o
moves), and `t3`, `t8` steps. TPE, equal trials, w = 0.2, min_retained 0.98, where the default does not yet reach all;
the oracle as floor, one trained model of each of twelve tasks of `benchmarks.outcome`. `forms.LABEL.mean_best` : mean
over tasks of the best feasible s; `forms.LABEL.{ahead,wins,loses}` : above the plain form of as many steps (`t3` and
`t8`: above `t5`), mean, and share of tasks by 0.01 or more. 95 % bootstrap intervals over tasks (`.lo`, `.hi`). Results
are kept in `--work`, as `benchmarks.outcome`'s are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from benchmarks.harness import ROOT, Metrics, add_resumable, main, table
from benchmarks.outcome.runs import Plan, Section, read_all, run_model, say
from benchmarks.outcome.tables import Goal, Summary, stated
from benchmarks.outcome.tasks import CASES
from ssdtune.dampening import ratio
from ssdtune.errors import ConfigError
from ssdtune.fisher.metric import Metric
from ssdtune.fisher.response import SampleSpace
from ssdtune.progress import Track
from ssdtune.task import Task
from ssdtune.unlearning.method import Analyse, Options
from ssdtune.unlearning.methods import METHODS
from ssdtune.unlearning.plan import Term
from ssdtune.unlearning.sets import Batch
from ssdtune.unlearning.spectral import Spectral
from ssdtune.unlearning.spectral_update import SpectralOptions, SpectralUnlearner
from ssdtune.unlearning.training import Trainer

FORMS: dict[str, Section] = {
    "t1": {"steps": 1},
    "t1-identity": {"steps": 1, "metric": "identity"},
    "t1-damage": {"steps": 1, "limit": "damage"},
    "t1-half": {"steps": 1, "share": 0.5},
    "t1-tenth": {"steps": 1, "share": 0.1},
    "t3": {"steps": 3},
    "t5": {"steps": 5},
    "t8": {"steps": 8},
    "t5-identity": {"steps": 5, "metric": "identity"},
    "t5-capped": {"steps": 5, "capped": True},
    "t5-half": {"steps": 5, "share": 0.5},
    "t5-tenth": {"steps": 5, "share": 0.1},
}
MRI = ("014-1", "020-1", "029-1", "022-1", "012-1", "030-3", "010-3", "019-2", "031-3")
TASKS = (*(f"mri-{key}" for key in MRI), "vision-028", "vision-006", "vision-021")
QUICK = ("mri-014-1", "mri-029-1")
GOAL = Goal(0.2, 0.98)
CLEAR = 0.01  # of s, by which one is higher
NAME = "spectral-form"


class FormOptions(SpectralOptions):
    """Those of ``spectral``, and what was tried. share : of the parameters, those of largest r, that moves."""

    capped: bool = False
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class CappedTrainer(Trainer):
    """Gradients of a forget loss that is at most ``cap``, beyond which it pulls no longer."""

    cap = float("inf")

    def gradient(self, model: nn.Module, terms: Sequence[tuple[Term, Batch]]) -> Tensor | None:
        bounded = [(replace(term, cap=self.cap) if term.set == "forget" else term, batch) for term, batch in terms]
        return super().gradient(model, bounded)


@dataclass(frozen=True, eq=False)
class MaskedMetric(Metric):
    """A metric whose directions are 0 outside ``mask`` (P,)."""

    mask: Tensor

    def apply(self, vector: Tensor, mu: float) -> Tensor:
        return super().apply(vector, mu) * self.mask

    def direction(self, space: SampleSpace, mu: float, retain_weight: float) -> Tensor:
        return super().direction(space, mu, retain_weight) * self.mask


class Form(Spectral):
    """``spectral`` with what was tried, for this module alone."""

    name = NAME
    Options: type[Options] = FormOptions

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> SpectralUnlearner:
        """Raises ConfigError: a capped ascent without an oracle."""
        made = SpectralUnlearner(task, options, self, track)
        if options.capped:
            if task.oracle is None:
                raise ConfigError("no oracle, whose loss bounds the ascent", "method.capped", "leave it out")
            trainer = CappedTrainer(task, options, sets=("retain", "forget"))
            trainer.cap = trainer.mean_loss("forget", task.oracle)[0]
            made._trainer = trainer
        if options.share < 1:
            analysis = analyse()
            mask = largest(
                torch.from_numpy(analysis.forget.diagonal), torch.from_numpy(analysis.retain.diagonal), options.share
            )
            made.metric = MaskedMetric(**vars(made.metric), mask=mask.to(made.metric.weights))
        return made


def largest(f: Tensor, o: Tensor, share: float) -> Tensor:
    """(P,) whether a parameter is of the share of largest f / o."""
    r = ratio(f, o)
    chosen = torch.zeros_like(r, dtype=torch.bool)
    chosen[r.topk(max(1, round(share * len(r)))).indices] = True
    return chosen


def plain(label: str) -> str:
    """The form that one is compared with."""
    return label.split("-")[0] if "-" in label else "t5"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, help="of a study (default 20, quick 8)")
    add_resumable(parser, ROOT / "build/spectral_forms")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    METHODS[NAME] = "benchmarks.spectral_forms:Form"
    methods = {label: {"name": NAME, **section} for label, section in FORMS.items()}
    trials = chosen.trials or (8 if chosen.quick else 20)
    plan = Plan(methods, (GOAL.min_retained,), trials, chosen.seed, chosen.work, chosen.device)
    cases = [case for case in CASES if case.key in (QUICK if chosen.quick else TASKS)]
    if not chosen.summary:
        for case in cases:
            if case.needs is not None and not case.needs.exists():
                say(f"left out {case.key}: no {case.needs}, set SSDTUNE_TEST_DATA to the folder of the data")
            elif plan.missing(case, 0) and not chosen.dry_run:
                run_model((plan, case, 0))
    whole = [case for case in cases if not plan.missing(case, 0)]
    if not whole:
        raise SystemExit("error: no task has all its results yet, --work, run without --summary or --dry-run")
    return summarise(Summary(list(read_all(plan, whole)), GOAL, chosen.seed), lines, chosen.seed) | {"trials": trials}


def summarise(found: Summary, lines: list[str], seed: int) -> Metrics:
    """Fills ``lines`` with the table; returns its figures."""
    best = {label: found.over_tasks(label, lambda study: study.best) for label in found.by}
    metrics: Metrics = {"tasks": len(best["t5"])}

    add = partial(stated, metrics, seed=seed)
    rows = []
    for label, values in best.items():
        name, rival = f"forms.{label}", plain(label)
        cells = [label, add(f"{name}.mean_best", values), f"{np.median(values):.3f}", f"{values.min():.3f}"]
        if label != rival:
            ahead = values - best[rival]
            cells.append(f"{add(f'{name}.ahead', ahead)} of {rival}")
            counts = {"wins": int((ahead >= CLEAR).sum()), "loses": int((ahead <= -CLEAR).sum())}
            metrics |= {f"{name}.{what}": count / len(ahead) for what, count in counts.items()}
            cells.append(" : ".join(map(str, counts.values())))
        rows.append([*cells, "", ""][:6])
    lines += [f"{metrics['tasks']} tasks, a trained model each; best feasible s at equal trials."]
    lines += ["", *table(["form", "mean", "median", "worst", "ahead", "wins : losses"], rows)]
    return metrics


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
