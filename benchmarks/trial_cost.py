"""A trial at a fraction of its cost: whole studies, slices, estimates, and how the cost grows.

The plain way is trial_plain.py: float32, eager, one slice at a time, all slices, read and measured anew each trial.
`study_speedup`: seconds of a whole 30-trial study the plain way over those of `run_study` as it ships (reading all data
included), same task and sampler; making the study, which measures the untouched model, is in neither. `slices_share` of
the slices were evaluated.
`score_agreement`: share of small tasks on which the setting chosen scores within 0.005 of the plain way's choice, both
evaluated in full. `slice_speedup`: the same slices, read, reconstructed and measured, under one dampening.
`coverage95`: random partial evaluations whose stated 95 % interval holds the full mean. `early_stop_error`: replays
(trials and slices shuffled) in which the true best was stopped; `replay_slices` the share of slices they took, and
`wilcoxon.*` the same of Optuna's WilcoxonPruner. `search_overhead`: share of Optuna and the storage (SQLite) in the
time of trials 70 to 100. Growth: milliseconds a slice, plain and fast, for other sizes; `growth.*px.search_overhead`
is `search_overhead` with everything but the search scaled as a slice of that size is. `at_once.N_slices`: eight small
models one after the other over all at once (vmap). The study has slices of 128 pixels a side (32 with --quick).
With `--device cuda`: trial_cost_gpu.py, the paper's VarNet; every metric with the prefix `cuda.`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import torch
from harness import Metrics, main
from trial_growth import at_once, growth
from trial_plain import PlainTrial, plain_qualities, plain_study, untouched_qualities
from trial_replay import best_trial, coverage, replay_bound, replay_wilcoxon
from trial_tasks import MAIN, QUICK, SMALL, Case, Sizes, make_case

from ssdtune.scoring.evaluator import Evaluator
from ssdtune.search.cost import cost_of, cost_of_trials
from ssdtune.search.facts import StudyFacts, read_facts
from ssdtune.search.records import FINISHED, best_of, scored_trials
from ssdtune.search.run import run_study, study_sampler
from ssdtune.search.storage import open_storage, quick_commits, quiet_optuna
from ssdtune.search.study import create_study
from ssdtune.studyfile import SearchSection

TRIALS = 30
CLOSE = 0.005


def measure(options: argparse.Namespace) -> Metrics:
    if options.device.startswith("cuda"):
        from trial_cost_gpu import measure_gpu

        return measure_gpu(options)
    quiet_optuna()
    trials = 12 if options.quick else TRIALS
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), QUICK if options.quick else MAIN, options.seed)
        metrics, plain, facts = whole_study(case, Path(folder), options, trials)
        metrics["threads"] = torch.get_num_threads()
        metrics |= slices(case)
        metrics |= estimates(case, plain, facts, options)
        _say(metrics)
        metrics |= agreement(Path(folder), options, trials)
        _say(metrics)
    metrics |= growth(options) | at_once(options)
    metrics |= other_overhead(metrics)
    _say(metrics)
    return metrics


def other_overhead(metrics: Metrics) -> Metrics:
    """The search's share for smaller slices, by how the time of a slice grows."""
    search, share, own = metrics["search_s_a_trial"], metrics["search_overhead"], f"growth.{MAIN.pixels}px.fast_ms"
    if own not in metrics:
        return {}
    rest = search * (1 - share) / share
    scale = {name: metrics[f"growth.{name}.fast_ms"] / metrics[own] for name in ("64px", "96px")}
    return {f"growth.{name}.search_overhead": search / (search + rest * times) for name, times in scale.items()}


def whole_study(
    case: Case, folder: Path, options: argparse.Namespace, trials: int
) -> tuple[Metrics, list[PlainTrial], StudyFacts]:
    """The same study both ways, and the search's share as the fast one goes on to 100 trials."""
    storage = open_storage(f"sqlite:///{folder}/studies.db", create=True)
    search = SearchSection.model_validate({"sampler": options.sampler, "trials": trials, "seed": options.seed})
    study = create_study(case.task, storage, name=case.task.name, search=search)
    facts = read_facts(study)
    started = time.perf_counter()
    plain = plain_study(case, facts, study_sampler(study, facts, case.analysis), trials)
    plain_seconds = time.perf_counter() - started
    started = time.perf_counter()
    with quick_commits(storage):
        run_study(study, case.task, case.analysis)
    fast_seconds = time.perf_counter() - started
    cost, choice = cost_of(study), chosen(case, study)
    print(f"plain {plain_seconds:.0f} s, fast {fast_seconds:.0f} s: {cost.rows()}", file=sys.stderr, flush=True)
    hundred = 20 if options.quick else 100
    with quick_commits(storage):
        run_study(study, case.task, case.analysis, trials=hundred)
    late = cost_of_trials(study.get_trials(deepcopy=False, states=FINISHED)[int(0.7 * hundred) :])
    return (
        {
            "study_speedup": plain_seconds / fast_seconds,
            "study_plain_s": plain_seconds,
            "study_fast_s": fast_seconds,
            "slices_share": cost.slices / cost.possible,
            "trials_stopped": sum(cost.stopped.values()) / cost.trials,
            "score_difference": choice - max([t.score for t in plain if t.feasible], default=facts.rule.retain_weight),
            "search_overhead": late.seconds["search"] / late.total,
            "search_s_a_trial": late.seconds["search"] / late.trials,
        },
        plain,
        facts,
    )


def chosen(case: Case, study: optuna.Study) -> float:
    """The score of the study's choice, evaluated in full the plain way: its best trial, or the model as it is.

    1 is taken off where the plain way finds the choice infeasible.
    """
    from trial_plain import plain_dampened

    facts, best = read_facts(study), best_of(scored_trials(study))
    if best is None or not best.score.feasible:
        return facts.rule.retain_weight
    found = plain_qualities(case, plain_dampened(case, best.setting.alpha, best.setting.lam))
    score = facts.rule(found["retain"].mean(), found["forget"].mean())
    return score.value if score.feasible else score.value - 1


def slices(case: Case, count: int = 16, repeats: int = 5) -> Metrics:
    """Milliseconds a slice, both ways, under one dampening; every layer is touched, so that no maps are reused."""
    alpha = float(case.analysis.alpha_at(0.1))
    params = {name: 0.999 * value for name, value in case.analysis.dampen(alpha, alpha / 2).items()}
    model = _with(case, params)
    evaluator = Evaluator(case.task)
    plain, fast = [], []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        plain_qualities(case, model, count)
        between = time.perf_counter()
        found = evaluator.start(params)
        for name in case.task.scored_sets:
            found.extend(name, count)
        done = time.perf_counter()
        if repeat:  # the first prepares and warms up
            plain.append((between - started) / (2 * count))
            fast.append((done - between) / (2 * count))
    return {
        "slice_speedup": float(np.median(plain) / np.median(fast)),
        "slice_plain_ms": 1e3 * float(np.median(plain)),
        "slice_fast_ms": 1e3 * float(np.median(fast)),
    }


def estimates(case: Case, plain: list[PlainTrial], facts: StudyFacts, options: argparse.Namespace) -> Metrics:
    rng = np.random.default_rng(options.seed)
    untouched = untouched_qualities(case)
    replays = 40 if options.quick else 300
    metrics = {"coverage95": coverage(plain, untouched, 400 if options.quick else 4000, rng)}
    if best_trial(plain, facts.rule) is None:
        print("no trial beats the untouched model: there is no true best to replay", file=sys.stderr, flush=True)
        return metrics
    ours = replay_bound(plain, untouched, facts.rule, replays, rng)
    metrics |= {"early_stop_error": ours.error, "replay_slices": ours.slices}
    for threshold in (0.1, 0.01):
        theirs = replay_wilcoxon(plain, untouched, facts.rule, replays // 10, rng, threshold)
        metrics[f"wilcoxon.error_p{threshold:g}"] = theirs.error
        metrics[f"wilcoxon.slices_p{threshold:g}"] = theirs.slices
    return metrics


def agreement(folder: Path, options: argparse.Namespace, trials: int) -> Metrics:
    """Small tasks of all corruptions: the setting chosen with and without shortcuts, both scored in full."""
    differences = []
    sizes: Sizes = QUICK if options.quick else SMALL
    for number in range(3 if options.quick else 10):
        case = make_case(folder / "small", sizes, options.seed + 100, number)
        search = SearchSection.model_validate({"sampler": options.sampler, "trials": trials, "seed": options.seed})
        values = []
        for exact in (False, True):
            study = create_study(case.task, name=f"{case.task.name}", search=search)
            run_study(study, case.task, case.analysis, exact=exact)
            values.append(chosen(case, study))
        differences.append(values[0] - values[1])
        print(f"{case.task.name}: {values}", file=sys.stderr, flush=True)
    near = np.abs(differences) <= CLOSE
    worse = np.array(differences) < -CLOSE
    return {
        "score_agreement": float(near.mean()),
        "score_not_worse": float(1 - worse.mean()),
        "score_largest_loss": float(-min(0.0, *differences)),
    }


def _with(case: Case, params: dict[str, torch.Tensor]) -> torch.nn.Module:
    import copy

    model = copy.deepcopy(case.task.model)
    model.load_state_dict({**model.state_dict(), **params})
    return model


def _say(metrics: Metrics) -> None:
    """What is known so far: the whole takes minutes."""
    print({name: round(float(value), 4) for name, value in metrics.items()}, file=sys.stderr, flush=True)


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sampler", default="tpe", help="sampler of the studies")


if __name__ == "__main__":
    main(__doc__ or "", measure, _extend)
