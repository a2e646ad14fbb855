"""The tasks, of four sizes, and the target on each: the best of a dense search that no sampler had a part in."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import qmc

from benchmarks.harness import Metrics
from benchmarks.trial_cost.tasks import SSD, Case, Sizes, make_case
from ssdtune.fisher.analysis import analyse
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.measure import Objective
from ssdtune.objective.stopping import Incumbent
from ssdtune.study.create import create_study
from ssdtune.study.record import read_baseline, read_record
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

SMALL = Sizes(pixels=32, cascades=1, channels=6, pools=2, epochs=25, train=60, retain=100, forget=50)
MIDDLE = Sizes(pixels=48, cascades=2, channels=6, pools=2, epochs=15, train=60, retain=100, forget=50)
LARGER = Sizes(pixels=64, cascades=2, channels=8, pools=3, epochs=10, train=60, retain=80, forget=40)
LARGE = Sizes(pixels=128, cascades=2, channels=9, pools=4, epochs=8, train=40, retain=40, forget=20)
TINY = Sizes(pixels=32, cascades=1, channels=4, pools=2, epochs=8, train=30, retain=40, forget=20)


@dataclass(frozen=True)
class Plan:
    """A task: its sizes, the ``number`` of its corruption and anatomies, how many seeds search it.

    timed : plain trials that are run as they are, None for all of them. Of the others, the seconds of an evaluation are
    the median of those that were timed, and what they come to is taken from every slice of the fast form.
    minutes : of one core, about, for all of it.
    """

    name: str
    sizes: Sizes
    number: int
    seeds: int = 3
    timed: int | None = None
    minutes: float = 3.0


PLANS = (
    Plan("32px-ghosting", SMALL, 0, minutes=7),
    Plan("32px-lesion", SMALL, 2, minutes=7),
    Plan("48px-bias", MIDDLE, 1, timed=15, minutes=9),
    Plan("48px-zipper", MIDDLE, 3, timed=15, minutes=9),
    Plan("48px-lesion", MIDDLE, 7, timed=15, minutes=9),
    Plan("64px-blur", LARGER, 4, seeds=2, timed=10, minutes=8),
    Plan("128px-ghosting", LARGE, 5, seeds=2, timed=5, minutes=12),
)
QUICK = (Plan("32px-tiny", TINY, 0, seeds=1, minutes=0.6),)


@dataclass(frozen=True)
class Made:
    """A task with what all its cells share: seconds of the analysis and of making it, slice passes of retraining."""

    plan: Plan
    case: Case
    analysis_s: float
    made_s: float

    def facts(self) -> Metrics:
        """What is known of the task beside its cells. ``retraining`` : slice passes of training again on the retain
        set with the same epochs, where a forward and a backward pass are 3."""
        sizes = self.plan.sizes
        return {
            "pixels": sizes.pixels,
            "parameters": sum(value.numel() for value in self.case.task.params.values()),
            "scored": sizes.retain + sizes.forget,
            "retraining": 3 * sizes.epochs * sizes.train,
            "analysis_s": self.analysis_s,
            "core_s": self.made_s + self.analysis_s,
        }


def make(plan: Plan, folder: Path, seed: int) -> Made:
    """Simulate, train, analyse. The analysis is timed alone, warm as the studies after it are."""
    started = time.process_time()
    case = make_case(folder, plan.sizes, seed + 500, plan.number)
    made_s = time.process_time() - started
    started = time.process_time()
    analysis = analyse(case.task)
    return Made(plan, replace(case, analysis=analysis), time.process_time() - started, made_s)


def dense_search(made: Made, settings: int) -> Metrics:
    """The best feasible score of so many settings, a Sobol sequence over the logarithms of both knobs with lambda at
    most alpha, beyond which nothing changes. All are measured by the fast form against the best so far.

    ``found_at`` : which of them it was, -1 where none is feasible and better than the untouched model.
    """
    started = time.process_time()
    task, study = made.case.task, create_study(made.case.task, method=SSD)
    record, baseline, unlearner = read_record(study), read_baseline(study), made.case.unlearner(study)
    objective = Objective(
        Evaluator(task), record.rule, record.baseline, untouched=baseline.columns if baseline else None
    )
    best, found_at = Incumbent(record.rule(*record.qualities(record.baseline))), -1
    for number, setting in enumerate(sobol(record.knobs[0].low, record.knobs[0].high, record.knobs[1].low, settings)):
        outcome = objective.measure(unlearner, setting, best)
        score = record.rule(*record.qualities(outcome.means))
        if outcome.stopped is None and not outcome.broken and best.beaten_by(score):
            best, found_at = Incumbent(score, dict(outcome.columns)), number
    return {
        "reference": best.score.value,
        "untouched": record.rule.retain_weight,
        "found_at": found_at,
        "settings": settings,
        "core_s": time.process_time() - started,
    }


def sobol(low: float, high: float, low_lambda: float, count: int) -> list[dict[str, float]]:
    """``count`` (a power of two) settings with lambda <= alpha."""
    points = qmc.Sobol(2, rng=0).random_base2(int(np.log2(count)))
    alphas = np.exp(np.log(low) + points[:, 0] * np.log(high / low))
    lambdas = np.exp(np.log(low_lambda) + points[:, 1] * np.log(alphas / low_lambda))
    return [{ALPHA: float(alpha), LAMBDA: float(lam)} for alpha, lam in zip(alphas, lambdas, strict=True)]
