"""The search over a method's knobs in real studies: the sampler ei, with and without a prior, against TPE.

Every study reconstructs for real; nothing is interpolated. `ei` begins around networks that have seen no task of the
family, `ei-alone` knows nothing of other tasks and begins with the method's first published setting, `tpe` with all. No
trial is stopped early. Regret is to the best that any of these studies found with the method on the task. In the JSON,
`METHOD.regret.NAME.N` after N trials, `METHOD.median_trials.NAME` to within 0.01 of the best (budget + 1 where the
median study never arrives) with 95 % intervals over tasks (`.lo`, `.hi`), `METHOD.win_rate.NAME` the share of tasks on
which the area under the regret of `ei` is below that of NAME (a tie counts half), and `METHOD.saved.NAME` that area a
trial saved, paired; `METHOD.trap.stuck_tasks` on how many tasks `ei` takes more than 1.5 times the trials of `ei-alone`
and 2, `METHOD.trap.max_ratio` how many times at most; `METHOD.mri.…` are of the tasks of MRI alone. Results are kept
one by one in `--work`: a run that was stopped goes on, and `--summary` shows what there is.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import torch

from benchmarks.competition.held_out import read_replays
from benchmarks.competition.tables import (
    TRAP_GRACE,
    TRAP_RATIO,
    in_words,
    regret_metrics,
    trap_of,
    trap_words,
    with_interval,
)
from benchmarks.competition.transfer import residuals
from benchmarks.harness import ROOT, Metrics, add_resumable, commits_of, kept, main
from benchmarks.outcome.runs import Made, say
from benchmarks.outcome.tasks import CASES, Case, make_task
from ssdtune.arrays import Array
from ssdtune.learning.fit import fit
from ssdtune.learning.fit_methods import RECIPE, foreseen, parts_without, rows_of
from ssdtune.learning.processes import run_in_processes
from ssdtune.learning.training import Recipe
from ssdtune.objective.baseline import MIN_GAP
from ssdtune.prior.experience import BUNDLED, Experience
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.prior.method_inputs import METHOD_INPUTS
from ssdtune.prior.method_mapper import MethodMapper
from ssdtune.progress import silent
from ssdtune.report.regret import area_under_regret, win_rate
from ssdtune.study.create import create_study, enqueue_published
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import scored_trials
from ssdtune.studyfile import ScoreSection, SearchSection

OURS, RIVALS = "ei", ("ei-alone", "tpe")
TRIALS = {"spectral": 50}
OTHERS = 20  # trials of a study of a method that trains
SHOWN = (1, 3, 5, 10, 20, 50)
QUICK = ("mri-014-1", "mri-020-1")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collection", type=Path, default=BUNDLED, metavar="FILE", help="or a folder of parts")
    parser.add_argument("--methods", default=",".join(METHOD_INPUTS), metavar="M,M")
    parser.add_argument("--tasks", nargs="+", metavar="KEY", help="those run (default: one of each family)")
    parser.add_argument("--trials", type=int, help="of a study (default 50 of spectral, 20 of others)")
    parser.add_argument("--seeds", type=int, default=1, help="searches of each kind (default 1)")
    add_resumable(parser, ROOT / "build/knob_search")


@dataclass(frozen=True)
class Plan:
    """One task's studies: ``mapper`` is one that has seen no task of its family, needed where studies are missing."""

    case: Case
    methods: Sequence[str]
    trials: Mapping[str, int]
    seeds: int
    folder: Path
    mapper: SpectrumMapper | None = None

    def place(self, method: str, sampler: str, seed: int) -> Path:
        return self.folder / self.case.key / f"{method}-{sampler}-{self.trials[method]}trials-s{seed}.json"

    def missing(self, method: str | None = None) -> list[tuple[str, str, int]]:
        """(method, sampler, seed) of the studies that are not there yet, of one method or of all."""
        if (self.folder / self.case.key / "invalid.json").exists():
            return []
        asked = [
            (m, s, i)
            for m in ([method] if method else self.methods)
            for s in (OURS, *RIVALS)
            for i in range(self.seeds)
        ]
        return [each for each in asked if not self.place(*each).exists()]


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    methods = chosen.methods.split(",")
    records = [replay.experience for replay in read_replays(chosen.collection)[0]]
    cases = choose_cases(chosen, {record.family for record in records})
    trials = {m: chosen.trials or (6 if chosen.quick else TRIALS.get(m, OTHERS)) for m in methods}
    plans = [Plan(case, methods, trials, chosen.seeds, chosen.work) for case in cases]
    left = [plan for plan in plans if plan.missing()]
    if chosen.dry_run:
        missing = sum(len(plan.missing()) for plan in left)
        lines.append(f"{missing} studies on {len(left)} tasks are missing")
        return {"missing": missing}
    if left and not chosen.summary:
        mappers = mappers_without(records, [plan.case.family for plan in left], methods, chosen)
        ready = [replace(plan, mapper=mappers[plan.case.family]) for plan in left]
        run_in_processes(run_task, ready, chosen.workers, track=silent, description="studies")
    lines.append(f"{len(cases)} tasks, {chosen.seeds} searches of each kind. Run at commit {commits_of(chosen.work)}.")
    metrics: Metrics = {}
    for method in methods:
        metrics |= report(method, [plan for plan in plans if not plan.missing(method)], lines)
    return metrics


def choose_cases(chosen: argparse.Namespace, families: set[str]) -> list[Case]:
    """The tasks asked for that are of a family of the collection and whose data are there."""
    first = {case.family: case.key for case in reversed(CASES)}
    wanted = chosen.tasks or (QUICK if chosen.quick else sorted(first.values()))
    cases = [case for case in CASES if case.key in wanted and case.recipe is not None and case.family in families]
    if not cases:
        raise SystemExit(f"error: no such tasks of a family of the collection, --tasks, choose among {sorted(first)}")
    return [case for case in cases if case.needs is None or case.needs.exists()]


def mappers_without(
    records: Sequence[Experience], families: Sequence[str], methods: Sequence[str], chosen: argparse.Namespace
) -> dict[str, SpectrumMapper]:
    """For each family a mapper whose parts have seen no task of it; how strange a task is to it is measured alike."""
    parts: dict[str, dict[str, MethodMapper]] = {family: {} for family in families}
    for method in methods:
        for family, part in parts_of(method, records, families, chosen).items():
            parts[family][method] = part
    found = {}
    for family in set(families):
        others = [record for record in records if record.family != family]
        small = Recipe(networks=1, epochs=1, trees=0)  # of SSD, which is not searched here
        frame = fit(others, seed=chosen.seed, recipe=small, calibration=SpectrumMapper.load().calibration)
        found[family] = replace(frame, methods=parts[family])
    return found


def parts_of(
    method: str, records: Sequence[Experience], families: Sequence[str], chosen: argparse.Namespace
) -> dict[str, MethodMapper]:
    """A method's part for each family, from the tasks of other folds; its residual is that on other families."""
    rows = [rows_of(record, method) for record in records if method in record.responses]
    if not rows:
        raise SystemExit(f"error: no responses to {method}, {chosen.collection}, give a collection that has them")
    recipe = replace(RECIPE, networks=1, epochs=10) if chosen.quick else RECIPE
    parts, own = parts_without(method, rows, seed=chosen.seed, recipe=recipe), [each.family for each in rows]
    residual = residuals([foreseen(part, each) for part, each in zip(parts, rows, strict=True)], own)
    say(f"{method}: learned")
    return {
        family: replace(parts[own.index(family)], residual_sd=residual[family]) for family in set(families) & set(own)
    }


def run_task(plan: Plan) -> None:
    """Every missing study of one task."""
    torch.set_num_threads(1)
    quiet_optuna()
    made = Made(make_task(plan.case, 0), plan.case.family, 0)
    if made.gap < MIN_GAP:
        kept(plan.folder / plan.case.key / "invalid.json", lambda: {"gap": made.gap})
        return
    for method, sampler, seed in plan.missing():
        kept(plan.place(method, sampler, seed), partial(search, made, plan, method, sampler, seed))
        say(f"{plan.case.key}: {method} by {sampler}")


def search(made: Made, plan: Plan, method: str, sampler: str, seed: int) -> list[float | None]:
    """s of each trial in order, None where it is not feasible."""
    assert plan.mapper is not None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        mapper = Path(folder) / "mapper.npz"  # named in the study, which would look into the bundled one otherwise
        (plan.mapper if sampler == OURS else replace(plan.mapper, methods={})).save(mapper)
        asked = SearchSection(
            sampler=sampler.removesuffix("-alone"), trials=plan.trials[method], seed=seed, mapper=mapper
        )
        study = create_study(made.task, name=plan.case.key, method={"name": method}, search=asked, score=ScoreSection())
        record = read_record(study)
        if sampler == "tpe":
            enqueue_published(study, record.chosen, record.knobs)
        unlearner = record.chosen.method.prepare(
            made.task, record.chosen.options, analyse=lambda: made.analysed[0], track=silent
        )
        run_study(study, made.task, unlearner, stop_early=False, evaluator=made.evaluator)
    scores = [each.score for each in scored_trials(study, record=record)]
    return [score.value if score is not None and score.feasible else None for score in scores]


def report(method: str, plans: Sequence[Plan], lines: list[str]) -> Metrics:
    """Metrics and the table of one method."""
    valid = [plan for plan in plans if not (plan.folder / plan.case.key / "invalid.json").exists()]
    if len(valid) < 2:
        lines += ["", f"`{method}`: {len(valid)} tasks, too few to compare"]
        return {f"{method}.tasks": len(valid)}
    incumbents = {name: np.stack([incumbent(plan, method, name) for plan in valid]) for name in (OURS, *RIVALS)}
    best = np.max([found.max(axis=(1, 2)) for found in incumbents.values()], axis=0)
    runs = {name: best[:, None, None] - found for name, found in incumbents.items()}
    budget = plans[0].trials[method]
    metrics, rows = regret_metrics(method, runs, [n for n in SHOWN if n <= budget], "sampler")
    metrics[f"{method}.tasks"] = len(valid)
    lines += ["", f"`{method}`, {len(valid)} tasks, {budget} trials:", "", *rows]
    scans = [plan.case.key.split("-")[0] != "vision" for plan in valid]
    if 2 <= sum(scans) < len(valid):
        alone = {name: each[scans] for name, each in runs.items()}
        found, rows = regret_metrics(f"{method}.mri", alone, [n for n in SHOWN if n <= budget], "sampler")
        metrics |= found
        lines += ["", f"The {sum(scans)} of MRI among them:", "", *rows]
    ours = area_under_regret(runs[OURS].mean(axis=1), budget)
    for name in RIVALS:
        theirs = area_under_regret(runs[name].mean(axis=1), budget)
        metrics |= with_interval(f"{method}.saved.{name}", theirs - ours, np.mean)
        metrics[f"{method}.win_rate.{name}"] = win_rate(ours, theirs)
        lines.append(
            f"\n`ei` is ahead of `{name}` on {metrics[f'{method}.win_rate.{name}']:.0%} of tasks and saves a mean "
            f"regret of {in_words(metrics, f'{method}.saved.{name}')} a trial."
        )
    metrics |= trap_of(method, runs[OURS], runs[RIVALS[0]])
    lines.append(f"\n`ei` takes more than {TRAP_RATIO} times the trials of `{RIVALS[0]}`, beyond {TRAP_GRACE}, ")
    lines[-1] += f"{trap_words(metrics, method)}."
    return metrics


def incumbent(plan: Plan, method: str, sampler: str) -> Array:
    """(seeds, trials) best feasible s so far, that of the untouched model before there is one."""
    runs: list[list[float | None]] = [kept(plan.place(method, sampler, seed), list) for seed in range(plan.seeds)]
    untouched = ScoreSection().retain_weight
    values = np.array([[untouched if s is None else s for s in run] for run in runs])
    return np.asarray(np.maximum.accumulate(np.maximum(values, untouched), axis=1))


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
