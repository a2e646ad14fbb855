"""A whole study both ways, the plain one and `run_study` as it ships, and what each chose."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import optuna

from benchmarks.harness import Metrics
from benchmarks.trial_cost.plain import PlainTrial, plain_dampened, plain_qualities, plain_study
from benchmarks.trial_cost.tasks import SSD, Case
from ssdtune.study.cost import cost_of, cost_of_trials
from ssdtune.study.create import create_study
from ssdtune.study.prior import study_sampler
from ssdtune.study.record import StudyRecord, read_record
from ssdtune.study.storage import open_storage, quick_commits
from ssdtune.study.trials import FINISHED, best_of, scored_trials
from ssdtune.studyfile import SearchSection


def whole_study(
    case: Case, folder: Path, options: argparse.Namespace, trials: int
) -> tuple[Metrics, list[PlainTrial], StudyRecord]:
    """The same study both ways, and the search's share as the fast one goes on to 100 trials."""
    storage = open_storage(f"sqlite:///{folder}/studies.db", create=True)
    search = SearchSection.model_validate({"sampler": options.sampler, "trials": trials, "seed": options.seed})
    study = create_study(case.task, storage, name=case.task.name, method=SSD, search=search)
    record = read_record(study)
    started = time.perf_counter()
    plain = plain_study(case, record, study_sampler(study, record, case.unlearner(study)), trials)
    plain_seconds = time.perf_counter() - started
    started = time.perf_counter()
    with quick_commits(storage):
        case.run(study, say=_say)
    fast_seconds = time.perf_counter() - started
    cost, choice = cost_of(study), chosen(case, study)
    print(f"plain {plain_seconds:.0f} s, fast {fast_seconds:.0f} s: {cost.rows()}", file=sys.stderr, flush=True)
    hundred = 20 if options.quick else 100
    with quick_commits(storage):
        case.run(study, trials=hundred)
    late = cost_of_trials(study.get_trials(deepcopy=False, states=FINISHED)[int(0.7 * hundred) :])
    return (
        {
            "study_speedup": plain_seconds / fast_seconds,
            "study_plain_s": plain_seconds,
            "study_fast_s": fast_seconds,
            "slices_share": cost.slices / cost.possible,
            "trials_stopped": sum(cost.stopped.values()) / cost.trials,
            "score_difference": choice - max([t.score for t in plain if t.feasible], default=record.rule.retain_weight),
            "search_overhead": late.seconds["search"] / late.total,
            "search_s_a_trial": late.seconds["search"] / late.trials,
        },
        plain,
        record,
    )


def chosen(case: Case, study: optuna.Study) -> float:
    """The score of the study's choice, evaluated in full the plain way: its best trial, or the model as it is.

    1 is taken off where the plain way finds the choice infeasible.
    """
    record, best = read_record(study), best_of(scored_trials(study))
    if best is None or not best.score.feasible:
        return record.rule.retain_weight
    found = plain_qualities(case, plain_dampened(case, best.setting))
    score = record.rule(found["retain"].mean(), found["forget"].mean())
    return score.value if score.feasible else score.value - 1


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
