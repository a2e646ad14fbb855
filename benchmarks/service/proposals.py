"""What proposing several trials at once costs: recorded tasks, searched by k workers on a clock that is counted."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache

import numpy as np
import optuna

from benchmarks.competition.held_out import read_replays, stratified
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import BOX, SETTINGS, place, regret_of
from benchmarks.harness import Metrics
from benchmarks.service.crew import make_study, task
from ssdtune.objective.measure import measure_exactly
from ssdtune.objective.outcome import Outcome
from ssdtune.objective.stopping import Incumbent
from ssdtune.prior.experience import BUNDLED
from ssdtune.samplers.table import SAMPLERS, SamplerFactory
from ssdtune.study.pool import Measure
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.tune import prepare
from ssdtune.unlearning.method import Setting

GOAL = SETTINGS["w0.2_min0.95"]
TRIALS, WORKERS, RESAMPLES = 30, 4, 2000

MakeFactory = Callable[[int, str], SamplerFactory]


def run(replay: Replay, factory: SamplerFactory, workers: int, seed: int) -> np.ndarray:
    """s of every trial in the order of their ends (minus infinity where infeasible), of a study by so many workers.

    Each asks as soon as it has told; trials take 0.5 to 1.5 of a unit of time, drawn by seed.
    """
    study = optuna.create_study(direction="maximize", study_name=replay.key)
    clock = np.random.default_rng(seed)
    ends: list[tuple[float, int, optuna.Trial, float]] = []
    found: list[float] = []
    now = 0.0
    for number in range(TRIALS + workers):
        if number >= workers:  # all are at work: the first to end makes room
            now, _, trial, s = heapq.heappop(ends)
            study.tell(trial, s)
            found.append(s if trial.user_attrs["feasible"] else -np.inf)
        if number < TRIALS:
            trial, s = _begin(study, replay, factory)
            heapq.heappush(ends, (now + clock.uniform(0.5, 1.5), number, trial, s))
        elif not ends:
            break
    return np.array(found)


def _begin(study: optuna.Study, replay: Replay, factory: SamplerFactory) -> tuple[optuna.Trial, float]:
    """A trial as ``study.ask`` proposes it, and what it will come to."""
    others = study.get_trials(deepcopy=False)
    trial = study.ask()
    study.sampler = factory.make(trial.number, others)
    s, feasible = place(trial, replay, GOAL)
    trial.set_user_attr("feasible", feasible)
    return trial, s


def regrets(make: MakeFactory, tasks: Sequence[Replay], seeds: int, workers: int) -> np.ndarray:
    """(tasks, seeds): regret after all trials."""
    found = np.empty((len(tasks), seeds))
    for i, replay in enumerate(tasks):
        best = replay.best(GOAL, BOX)
        for seed in range(seeds):
            found[i, seed] = regret_of(run(replay, make(seed, replay.key), workers, seed), best, GOAL)[-1]
    return found


def ratio(several: np.ndarray, one: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean regret of several workers over that of one, and its 95 % interval: tasks are drawn, then seeds in each."""
    tasks, seeds = one.shape
    drawn = []
    for _ in range(RESAMPLES):
        rows = rng.integers(tasks, size=(tasks, 1))
        own, other = (rng.integers(seeds, size=(tasks, seeds)) for _ in range(2))
        drawn.append(several[rows, own].mean() / one[rows, other].mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(several.mean() / one.mean()), float(low), float(high)


class CountedPool:
    """A pool (``study.pool``) of ``size`` workers that measure at once and answer when their time is up."""

    def __init__(self, measure: Measure, size: int, seed: int) -> None:
        self._measure, self._size, self._clock = measure, size, np.random.default_rng(seed)
        self._now, self._ends = 0.0, list[tuple[float, int, Outcome]]()

    @property
    def free(self) -> bool:
        return len(self._ends) < self._size

    def submit(self, number: int, setting: Setting, incumbent: Incumbent, seed: int) -> None:
        outcome = self._measure(setting, incumbent, seed)
        heapq.heappush(self._ends, (self._now + self._clock.uniform(0.5, 1.5), number, outcome))

    def wait(self) -> tuple[int, Outcome | Exception]:
        self._now, number, outcome = heapq.heappop(self._ends)
        return number, outcome


def smooth(seeds: int, seed: int) -> Metrics:
    """The same of the sleeping method, without its sleep, through ``run_study``; the best there is from a grid."""
    regrets = {workers: np.array([_smooth_regret(workers, seed + s) for s in range(seeds)]) for workers in (1, WORKERS)}
    one, several = (found[None] for found in regrets.values())
    found, low, high = ratio(several, one, np.random.default_rng(seed))
    return {
        "smooth_regret_1": float(one.mean()),
        f"smooth_regret_{WORKERS}": float(several.mean()),
        "smooth_ratio": found,
        "smooth_ratio_low": low,
        "smooth_ratio_high": high,
    }


def _smooth_regret(workers: int, seed: int) -> float:
    study = make_study(None, TRIALS, 0.0, seed, sampler="tpe")
    unlearner = prepare(read_record(study), task())
    run_study(study, task(), unlearner, pool=lambda measure: nullcontext(CountedPool(measure, workers, seed)))
    return _best_there_is() - study.best_value


@cache
def _best_there_is() -> float:
    """Of any study of the task: all have one rule."""
    study = make_study(None, 1, 0.0, 0, sampler="tpe")
    record, values = read_record(study), []
    unlearner = prepare(record, task())
    for product in np.linspace(0, 1, 201):  # the method knows x * y alone
        outcome = measure_exactly(task(), unlearner, {"x": float(product), "y": 1.0}, 0)
        values.append(record.rule(*record.qualities(outcome.values())).value)
    return max(values)


def proposals(tasks: int, seeds: int, seed: int) -> Metrics:
    """Regret of TPE, ``tasks`` spread over the families, with one worker and with several."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    replays = {replay.key: replay for replay in read_replays(BUNDLED)[0]}
    some = [replays[key] for key in stratified(list(replays.values()), tasks)]

    def make(number: int, key: str) -> SamplerFactory:
        return SamplerFactory(SAMPLERS["tpe"], 1000 * seed + number, key, GOAL)

    one, several = (regrets(make, some, seeds, workers) for workers in (1, WORKERS))
    found, low, high = ratio(several, one, np.random.default_rng(seed))
    return {
        "tasks": len(some),
        "seeds": seeds,
        "regret_1": float(one.mean()),
        f"regret_{WORKERS}": float(several.mean()),
        "regret_ratio": found,
        "regret_ratio_low": low,
        "regret_ratio_high": high,
    }
