"""To a good setting at a fraction of the cost: `ssdtune study run` as it ships against TPE with 50 plain trials.

A setting is good if it is feasible and within 0.01 of the best feasible score that any trial of the task has shown, all
scored in full. The plain way evaluates every slice of every trial, one by one in float32 (trial_cost); its seconds
are slices times the median seconds of a slice, timed in the same run. The study with the spectrum sampler pays for what
it does: reading all data, dampening, reconstruction, scoring, search. Both need the untouched model's measures and the
Fisher analysis once (`analysis_s`), which are in neither. TPE's cost is that of its 50 trials where it finds nothing
good (`tpe_missed`: share of tasks). Medians over tasks of different corruptions: `headline_speedup` (seconds),
`slices_ratio` (slices), and `spectrum_trials`, `tpe_trials` to the first good one. Studies are of 50 trials (TPE)
and 30 (spectrum).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna

from benchmarks.harness import Metrics, main
from benchmarks.trial_cost.plain import plain_qualities
from benchmarks.trial_cost.tasks import QUICK, SSD, Case, Sizes, make_case
from ssdtune.study.cost import cost_of_trials
from ssdtune.study.create import create_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.study.trials import FINISHED, ScoredTrial, scored_trials
from ssdtune.studyfile import SearchSection

CLOSE = 0.01
SIZES = Sizes(pixels=48, cascades=2, channels=6, pools=2, retain=200, forget=100)


def measure(options: argparse.Namespace) -> Metrics:
    quiet_optuna()
    found: list[Metrics] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2 if options.quick else 3):
            started = time.perf_counter()
            case = make_case(Path(folder), QUICK if options.quick else SIZES, options.seed + 500, number)
            found.append({**one_task(case, options), "made_s": time.perf_counter() - started})
    medians = {name: float(np.median([each[name] for each in found])) for name in found[0]}
    return {
        "headline_speedup": medians["plain_s"] / medians["spectrum_s"],
        "slices_ratio": float(np.median([each["plain_slices"] / max(each["spectrum_slices"], 1) for each in found])),
        "least_speedup": min(each["plain_s"] / each["spectrum_s"] for each in found),
        "tpe_missed": float(np.mean([each["tpe_trials"] > 50 for each in found])),
        "spectrum_missed": float(np.mean([each["spectrum_trials"] > 30 for each in found])),
        "tasks": len(found),
        **medians,
    }


def one_task(case: Case, options: argparse.Namespace) -> Metrics:
    """Cost to the first good setting, both ways."""
    trials = {"tpe": 20 if options.quick else 50, "spectrum": 12 if options.quick else 30}
    studies = {name: _run(case, name, count, options) for name, count in trials.items()}
    scored = {name: scored_trials(study) for name, study in studies.items()}
    full = [item for items in scored.values() for item in items if not item.estimated and item.score.feasible]
    best = max([item.score.value for item in full], default=0.2)  # the untouched model is feasible at w
    slices = sum(len(samples) for samples in case.task.scored_sets.values())
    good = {name: _first_good(items, best) for name, items in scored.items()}
    tpe_trials = good["tpe"] if good["tpe"] is not None else trials["tpe"]
    spectrum_trials = good["spectrum"] if good["spectrum"] is not None else trials["spectrum"]
    cost = cost_of_trials(studies["spectrum"].get_trials(deepcopy=False, states=FINISHED)[:spectrum_trials])
    return {
        "plain_s": tpe_trials * slices * _plain_slice_seconds(case),
        "spectrum_s": cost.total,
        "plain_slices": tpe_trials * slices,
        "spectrum_slices": cost.slices,
        "tpe_trials": tpe_trials + (good["tpe"] is None),
        "spectrum_trials": spectrum_trials + (good["spectrum"] is None),
        "best_score": best,
        "analysis_s": float(case.analysis.record["seconds"]["total"]),
    }


def _run(case: Case, sampler: str, trials: int, options: argparse.Namespace) -> optuna.Study:
    search = SearchSection.model_validate({"sampler": sampler, "trials": trials, "seed": options.seed})
    study = create_study(case.task, name=f"{case.task.name}-{sampler}", method=SSD, search=search)
    # TPE's trials are all evaluated in full, as the plain way does; only their seconds are computed
    case.run(study, stop_early=sampler != "tpe")
    return study


def _first_good(items: list[ScoredTrial], best: float) -> int | None:
    """How many trials it took, None if none is good."""
    for place, item in enumerate(items):
        if not item.estimated and item.score.feasible and item.score.value >= best - CLOSE:
            return place + 1
    return None


def _plain_slice_seconds(case: Case, count: int = 8) -> float:
    plain_qualities(case, case.task.model, 2)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        plain_qualities(case, case.task.model, count)
        times.append((time.perf_counter() - started) / (2 * count))
    return float(np.median(times))


if __name__ == "__main__":
    main(__doc__ or "", measure)
