"""The spectrum sampler against its rivals, on held-out recorded tasks and on fresh, fully evaluated ones.

Replay: every recorded task of the collection is searched through its interpolated response surface, by a mapper that
has not seen its family (corruption kind x forget anatomy). Regret is the best known s minus that of the best feasible
trial so far, starting from the untouched model; means and medians are over tasks, seeds averaged first. In the JSON,
`<setting>.median_trials.<sampler>` is the number of trials to within 0.01, budget + 1 where the median task never
arrives; `<setting>.regret.<sampler>.<n>` the mean regret after n trials; `mean_rank` that of the area under regret over
30 trials (`mean_rank_10` over 10). `no-prior` is the spectrum sampler without a prior; `kind-out` and `site-out` are it
with a mapper that has seen no task of the same corruption kind, or of the same site. `ablation.<group>.delta` is the
mean regret over five trials that hiding inputs from the mapper adds, without turns for a search without prior, which
would be the same. All of that has the prefix `ssd.`, and 95 %
bootstrap intervals over tasks (`.lo`, `.hi`). A quick run holds out several families at a time, with one network.
Transfer: the same of other methods, by their names as prefix, but among the settings at which each task's response was
recorded: `transfer` is the sampler `ei` around networks that have seen no task of the family, `no-members` without
them, `published` the published settings and then any order, `random` any order (the mean of 20), which is what TPE does
with its first ten trials, after the published ones where there are any, so that `published` stands for it in
`win_rate_vs_tpe` and `minus_tpe_10`; `gain_3` is what the prior saves against `published` after three trials.
`no-features` hides the features of the analysis, `no-eigenvalues` and `no-globals` a part of them, `no-first-order` and
`no-damage` predicted loss changes, `no-units` these and knobs in units of the task, `coordinates-only` all of that,
`absolute-mu` the eigenvalue that mu is measured against, `no-spectrum` that too; `average` foresees the mean of past
responses; these are unguarded. Ranks, wins and wrong priors are as in the replay, over ten trials, traps over twenty.
Rows beside `transfer`, `<setting>.<row>.trap` and, of the first two, `.adversarial`: `unguarded` and `half-trust`, as
under Trap; `cautious`, a first trial that is to keep 0.02 more than asked for; `together`, the networks of all fits in
one ensemble.
Trap: on every recorded task the sampler with its prior (`spectrum`), without, `unguarded`, without the turns that bound
its trials by 1.5 times those without prior and 2, and with `half-trust` in the prior.
`ssd.<setting>.trap.{max_ratio,stuck_tasks,undecided_tasks}` are of the sampler,
`ssd.<setting>.{unguarded,half-trust}.trap.*` of those, `ssd.<setting>.every.*` regrets and wins on all tasks; with
wrong priors, on as many tasks as the replay ranks on,
`ssd.<setting>.{spectrum,unguarded,half-trust}.adversarial.<kind>.{aur_ratio,trap.*}`.
Fresh: tasks unlike the collection, every trial evaluated (`fresh.<task>.*`), unguarded too;
`fresh.{spectrum,unguarded}.trap.*` is over tasks and goals.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.competition.fresh import measure_fresh
from benchmarks.competition.held_out import measure_replay, read_replays
from benchmarks.competition.runs import read_kept
from benchmarks.competition.transfer import measure_transfer
from benchmarks.competition.trap import measure_trap
from benchmarks.harness import Metrics, at_least, main
from ssdtune.prior.experience import BUNDLED

PARTS = ("replay", "transfer", "trap", "fresh")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collection", type=Path, default=BUNDLED, metavar="FILE", help="or a folder of parts")
    parser.add_argument("--only", choices=PARTS, help="one of the parts")
    parser.add_argument("--mapper", type=Path, metavar="FILE", help="of the fresh part (default: the bundled one)")
    parser.add_argument("--tasks", type=int, default=24, help="tasks of every sampler and wrong prior (default 24)")
    parser.add_argument("--wide", type=int, default=60, help="tasks of the spectrum sampler and TPE (default 60)")
    parser.add_argument("--workers", type=at_least(0), default=2, help="processes (default 2); 0: in this one")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="finished runs, read and added to")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    metrics: Metrics = {}
    if chosen.kept is not None:
        read_kept(chosen.kept)  # what is wrong with it is said now, not after an hour
    parts = PARTS if chosen.only is None else (chosen.only,)
    if "replay" in parts:
        metrics |= measure_replay(chosen, lines)
    if "transfer" in parts:
        metrics |= measure_transfer(chosen, read_replays(chosen.collection)[0], lines)
    if "trap" in parts:
        metrics |= measure_trap(chosen, read_replays(chosen.collection)[0], lines)
    if "fresh" in parts:
        metrics |= measure_fresh(chosen, lines)
    return metrics


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
