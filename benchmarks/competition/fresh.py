"""Fresh studies: tasks unlike the collection, with the bundled mapper and every trial evaluated."""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks.competition.fresh_tasks import fresh_tasks
from benchmarks.competition.runs import LED, NO_PRIOR, SETTINGS, SPECTRUM, Job, progress, regret_of, run_job
from benchmarks.competition.tables import TRAP_GRACE, TRAP_RATIO, trap_counts, trap_words
from benchmarks.harness import Metrics, table
from ssdtune.fisher.analysis import FisherWarning, analyse
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.learning.collect import MIN_GAP
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.prior.view import TaskView
from ssdtune.report.regret import trials_to_target
from ssdtune.task import Task

BUDGETS = dict.fromkeys((*LED, NO_PRIOR), 20) | {"tpe": 30}
QUICK_BUDGETS = dict.fromkeys((*LED, NO_PRIOR), 5) | {"tpe": 10}
FRESH_SETTINGS = ("w0.2", "w0.2_min0.95")


class Live:
    """A task that is evaluated at every setting asked for, once; it stands where a replay does."""

    def __init__(self, task: Task) -> None:
        self.task, self.key = task, task.name
        assert task.oracle is not None
        before, oracle = evaluate(task), evaluate(replace(task, model=task.oracle))
        self.q_retain, self.q_forget = before.quality("retain"), before.quality("forget")
        self.floor = oracle.quality("forget")
        self._evaluator = Evaluator(task)
        self._known: dict[tuple[float, float], NDArray[np.float64]] = {}

    @cached_property
    def analysis(self) -> FisherAnalysis:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FisherWarning)
            return analyse(self.task)

    def selected_fraction(self, alpha: float) -> float:
        return float(self.analysis.selected_fraction(alpha))

    def alpha_at(self, rho: float) -> float:
        return float(self.analysis.alpha_at(rho))

    def outputs(self, alpha: float, lam: float) -> NDArray[np.float64]:
        """(2, 1): unclipped (retained, remembered)."""
        setting = max(alpha, lam), lam
        if setting not in self._known:
            measures = self._evaluator.measures(self.analysis.dampen(*setting))
            q_retain, q_forget = (np.nan_to_num(measures.quality(name)) for name in ("retain", "forget"))
            remembered = (q_forget - self.floor) / (self.q_forget - self.floor)
            self._known[setting] = np.array([[q_retain / self.q_retain], [remembered]])
        return self._known[setting]


def measure_fresh(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    """Regret and trials to target of the spectrum sampler, the same unguarded and without prior, and TPE, a study
    each."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mapper = SpectrumMapper.load(chosen.mapper)
    metrics: Metrics = {}
    rows = []
    solved: list[Mapping[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for task in fresh_tasks(Path(folder), chosen):
            started = time.perf_counter()
            live = Live(task)
            gap = live.q_forget - live.floor
            metrics[f"fresh.{task.name}.gap"] = gap
            metrics[f"fresh.{task.name}.parameters"] = sum(p.numel() for p in task.params.values())
            if gap < MIN_GAP:
                lines.append(f"fresh {task.name}: nothing to forget, q_forget - floor = {gap:.3f}; left out")
                continue
            response = mapper.respond(TaskView.of(live.analysis, live.floor / live.q_forget))
            metrics[f"fresh.{task.name}.trust"] = response.trust
            for setting in FRESH_SETTINGS:
                found, own = compete(live, setting, response.to_json(), chosen)
                metrics |= own
                solved.append({label: own[f"fresh.{task.name}.{setting}.trials.{label}"] for label in (*LED, NO_PRIOR)})
                rows += [[task.name, setting, *row] for row in found]
            progress(f"fresh {task.name}: {time.perf_counter() - started:.0f} s")
    lines += [
        "",
        "Fresh tasks, every trial evaluated, the bundled mapper, one study each; best known: the best of all trials.",
        "",
        *table(["task", "setting", "sampler", "best known s", "trials", "@1", "@3", "@5", "@10", "@15", "@20"], rows),
    ]
    return metrics | trapped(solved, (QUICK_BUDGETS if chosen.quick else BUDGETS)[NO_PRIOR], lines)


def trapped(solved: Sequence[Mapping[str, float]], budget: int, lines: list[str]) -> Metrics:
    """On how many tasks and goals the prior is a trap; trials to the target of each, one more than the budget where it
    is not reached, so that there the ratio is at least as large."""
    metrics: Metrics = {}
    plain = np.array([trials[NO_PRIOR] for trials in solved])
    words = []
    for label in LED:
        own = np.array([trials[label] for trials in solved])
        metrics |= trap_counts(f"fresh.{label}", own, plain, own > budget, budget)
        solved_by_either = int((np.minimum(own, plain) <= budget).sum())
        words.append(f"- `{label}` {trap_words(metrics, f'fresh.{label}')}, of {solved_by_either} tasks and goals")
    lines += ["", f"More than {TRAP_RATIO} times the trials of `{NO_PRIOR}`, beyond {TRAP_GRACE}:", "", *words]
    return metrics


def compete(
    live: Live, setting: str, response: dict[str, object], chosen: argparse.Namespace
) -> tuple[list[list[str]], Metrics]:
    """Table rows and metrics of every sampler under one setting."""
    budgets = QUICK_BUDGETS if chosen.quick else BUDGETS
    goal = SETTINGS[setting]
    found = {}
    for label, budget in budgets.items():
        sampler = SPECTRUM if label == NO_PRIOR else label
        job = Job(setting, label, sampler, live.key, chosen.seed, budget, response if label in LED else None)
        found[label] = run_job(job, live)
    best = max(goal.untouched, *(s.max() for s in found.values()))
    metrics: Metrics = {f"fresh.{live.key}.{setting}.best_known": float(best)}
    rows = []
    for label, s in found.items():
        regret = regret_of(s, best, goal)
        trials = float(trials_to_target(regret[None])[0])
        metrics[f"fresh.{live.key}.{setting}.trials.{label}"] = min(trials, budgets[label] + 1)
        at = {n: float(regret[n - 1]) for n in (1, 3, 5, 10, 15, 20, 30) if n <= len(regret)}
        metrics |= {f"fresh.{live.key}.{setting}.regret.{label}.{n}": value for n, value in at.items()}
        words = f"{trials:g}" if np.isfinite(trials) else f">{budgets[label]}"
        rows.append([label, f"{best:.3f}", words, *(f"{at[n]:.3f}" if n in at else "" for n in (1, 3, 5, 10, 15, 20))])
    return rows, metrics
