"""The spectrum sampler against its rivals, on held-out recorded tasks and on fresh, fully evaluated ones.

Replay: every recorded task of the collection is searched through its interpolated response surface, by a mapper that
has not seen its family (corruption kind x forget anatomy). Regret is the best known s minus that of the best feasible
trial so far, starting from the untouched model; means and medians are over tasks, seeds averaged first. In the JSON,
`<setting>.median_trials.<sampler>` is the number of trials to within 0.01, budget + 1 where the median task never
arrives; `<setting>.regret.<sampler>.<n>` the mean regret after n trials; `mean_rank` that of the area under regret over
30 trials (`mean_rank_10` over 10). `no-prior` is the spectrum sampler without a prior; `kind-out` and `site-out` are it
with a mapper that has seen no task of the same corruption kind, or of the same site.
A quick run holds out several families at a time, with a mapper of one network.
Fresh: tasks unlike the collection, every trial evaluated (`fresh.<task>.*`).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.competition.fresh import measure_fresh
from benchmarks.competition.held_out import measure_replay
from benchmarks.harness import Metrics, main
from ssdtune.prior.experience import BUNDLED


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collection", type=Path, default=BUNDLED, metavar="FILE", help="or a folder of parts")
    parser.add_argument("--only", choices=("replay", "fresh"), help="one of the two parts")
    parser.add_argument("--mapper", type=Path, metavar="FILE", help="of the fresh part (default: the bundled one)")
    parser.add_argument("--tasks", type=int, default=24, help="tasks that every sampler runs on (default 24)")
    parser.add_argument("--wide", type=int, default=60, help="tasks of the spectrum sampler and TPE (default 60)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kept", type=Path, metavar="FILE", help="finished runs of rivals, read and added to")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    metrics: Metrics = {}
    if chosen.only != "fresh":
        metrics |= measure_replay(chosen, lines)
    if chosen.only != "replay":
        metrics |= measure_fresh(chosen, lines)
    return metrics


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
