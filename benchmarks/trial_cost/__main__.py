"""A trial at a fraction of its cost: whole studies, slices, estimates, and how the cost grows.

The plain way is plain.py: float32, eager, one slice at a time, all slices, read and measured anew each trial.
`study_speedup`: seconds of a whole 30-trial study the plain way over those of `run_study` as it ships (reading all data
included), same task and sampler; making the study, which measures the untouched model, is in neither. `slices_share` of
the slices were evaluated.
`score_agreement`: share of small tasks on which the setting chosen scores within 0.005 of the plain way's choice, both
evaluated in full. `slice_speedup`: the same slices, read, reconstructed and measured, under one dampening.
`coverage95`: random partial evaluations whose stated 95 % interval holds the full mean. `early_stop_error`: replays
(trials and slices shuffled) in which the true best was stopped; `replay_slices` the share of slices they took, and
`wilcoxon.*` the same of Optuna's WilcoxonPruner. `search_overhead`: share of Optuna and the storage (SQLite) in the
time of trials 70 to 100. Growth: milliseconds a slice, plain and fast, for other sizes; `growth.*px.search_overhead`
is `search_overhead` with everything but the search scaled as a slice of that size is. `ways.CHANNELS_FORMAT.WAY_ms`:
milliseconds a slice of 128 pixels with all networks plain, the cascades' channels-last (as those of 18 channels are),
or all compiled (`compiled_ready_s`: seconds of the first such run). The study has slices of 128 pixels a side (32 with
--quick). What a GPU makes of it, `benchmarks.gpu` measures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Metrics, main
from benchmarks.trial_cost.growth import growth, random_case
from benchmarks.trial_cost.plain import PlainTrial, plain_qualities, untouched_qualities
from benchmarks.trial_cost.replay import best_of, coverage, replay_bound, replay_wilcoxon
from benchmarks.trial_cost.study import chosen, whole_study
from benchmarks.trial_cost.tasks import MAIN, QUICK, SMALL, SSD, Case, Sizes, make_case
from benchmarks.trial_cost.ways import ways
from ssdtune.objective.evaluator import Evaluator
from ssdtune.study.create import create_study
from ssdtune.study.record import StudyRecord
from ssdtune.study.storage import quiet_optuna
from ssdtune.studyfile import SearchSection

TRIALS = 30
CLOSE = 0.005


def measure(options: argparse.Namespace) -> Metrics:
    quiet_optuna()
    trials = 12 if options.quick else TRIALS
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(Path(folder), QUICK if options.quick else MAIN, options.seed)
        metrics, plain, record = whole_study(case, Path(folder), options, trials)
        metrics["threads"] = torch.get_num_threads()
        metrics |= slices(case)
        metrics |= estimates(case, plain, record, options)
        _say(metrics)
        metrics |= agreement(Path(folder), options, trials)
        _say(metrics)
    metrics |= growth(options) | other_ways(options)
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


def other_ways(options: argparse.Namespace) -> Metrics:
    """Ways to run networks of other numbers of channels."""
    found: Metrics = {}
    for channels in (8, 16, 18, 20, 24, 28, 32):
        sizes = Sizes(pixels=32 if options.quick else 128, channels=channels, pools=4)
        case = random_case(sizes, 8, options.device)
        runs = {
            "float32": ways(case, compiling=not options.quick and channels in (8, 18)),
            "bfloat16": ways(case, torch.bfloat16, compiling=False),
        }
        found |= {f"ways.{channels}ch_{run}.{way}": value for run, ran in runs.items() for way, value in ran.items()}
    return found


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


def estimates(case: Case, plain: list[PlainTrial], record: StudyRecord, options: argparse.Namespace) -> Metrics:
    rng = np.random.default_rng(options.seed)
    untouched = untouched_qualities(case)
    replays = 40 if options.quick else 300
    metrics = {"coverage95": coverage(plain, untouched, 400 if options.quick else 4000, rng)}
    if best_of([trial.qualities for trial in plain], record.rule, untouched) is None:
        print("no trial beats the untouched model: there is no true best to replay", file=sys.stderr, flush=True)
        return metrics
    ours = replay_bound(plain, untouched, record.rule, replays, rng)
    metrics |= {"early_stop_error": ours.error, "replay_slices": ours.slices}
    for threshold in (0.1, 0.01):
        theirs = replay_wilcoxon(plain, untouched, record.rule, replays // 10, rng, threshold)
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
            study = create_study(case.task, name=case.task.name, method=SSD, search=search)
            case.run(study, exact=exact)
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
