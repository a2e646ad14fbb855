"""Asking a study for its next trial: a place in the budget, a seed that survives a stop, a setting from the sampler."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

import optuna
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from ssdtune.samplers.table import SamplerFactory
from ssdtune.study.lost import sign_of_life, worker_name
from ssdtune.study.record import ORIGIN, SEED_NUMBER, WORKER, StudyRecord, interrupted, origin_of
from ssdtune.study.trials import FINISHED, tried_of
from ssdtune.unlearning.method import Choice, Chooser, Knob, Setting


@dataclass(frozen=True)
class Asked:
    """A trial under way: its setting, and the study's other trials when it began."""

    trial: optuna.Trial
    setting: Setting
    others: Sequence[FrozenTrial]


def ask(study: optuna.Study, record: StudyRecord, sampler: SamplerFactory, budget: int) -> Asked | None:
    """The next trial, or None where those finished and under way make up the budget.

    Two processes may take the last place at the same moment: the trial of the higher number gives way.
    """
    counted = (*FINISHED, TrialState.RUNNING)
    trials = study.get_trials(deepcopy=False)
    if sum(other.state in counted for other in trials) >= budget or _choice(record, trials, budget) is None:
        return None
    study.sampler = RandomSampler()  # asked nothing: the trial's own is made once its number is known
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # ``lost.signs_of_life`` records them
        trial = study.ask()
    sign_of_life(study, trial)  # should this process end before the trial is signed, others find it by that
    others: Sequence[FrozenTrial] = trials
    if trial.number != len(trials):  # another process has asked too
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
    choice = _choice(record, others, budget)
    if choice is None or sum(other.number < trial.number and other.state in counted for other in others) >= budget:
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return ask(study, record, sampler, budget)
    seed, others = _sign(study, trial, others)
    alike = others
    if len(choice.knobs) < len(record.knobs):  # what other knobs came to says nothing of these
        alike = [other for other in others if all(knob.name in other.params for knob in choice.knobs)]
    study.sampler = sampler.make(seed, alike)  # none of them has anything to do before a trial
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Constraints have been set")  # CMA-ES; the sampler's settings say so
        if choice.given:
            study.sampler = PartialFixedSampler(dict(choice.given), study.sampler)
        setting = {knob.name: _suggest(trial, knob) for knob in choice.knobs}
    return Asked(trial, setting, others)


def _sign(study: optuna.Study, trial: optuna.Trial, others: Sequence[FrozenTrial]) -> tuple[int, Sequence[FrozenTrial]]:
    """Store who runs the trial and what seeds it, which is returned with the other trials as they are then.

    Two processes that saw different trials interrupted may choose one number. Each stores its own and then looks, so
    that at least one finds out; who does takes another.
    """
    seed = seed_number(trial.number, others)
    while True:
        trial.set_user_attr(ORIGIN, {WORKER: worker_name(), SEED_NUMBER: seed})
        if not any(other.state == TrialState.RUNNING for other in others):
            return seed, others
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        used = {other.number: origin_of(other).get(SEED_NUMBER) for other in others if not interrupted(other)}
        if seed not in used.values():
            return seed, others
        earlier = sum(other == seed and number < trial.number for number, other in used.items())
        seed = next(islice((free for free in count() if free not in used.values()), earlier, None))


def _choice(record: StudyRecord, trials: Sequence[FrozenTrial], budget: int) -> Choice | None:
    """What the next trial searches: all knobs, unless the method chooses; None: it has nothing left to spend."""
    method = record.chosen.method
    if not isinstance(method, Chooser):
        return Choice(record.knobs)
    return method.choose(record.chosen.options, tried_of(trials, record), max(budget, record.search.trials))


def seed_number(number: int, others: Sequence[FrozenTrial]) -> int:
    """The number that seeds a trial: the lowest that no earlier trial has used up.

    It is the trial's own number as long as no trial was interrupted. An interrupted trial (failed without an error of
    its own) gives its number back, so the trial that takes its place repeats its proposal. Earlier trials of other
    processes that have not stored theirs yet take the lowest ones.
    """
    earlier = [other for other in others if other.number < number and not interrupted(other)]
    known = [origin_of(other).get(SEED_NUMBER) for other in earlier]
    used, pending = set(known), known.count(None)
    free = (candidate for candidate in range(number + 1) if candidate not in used)
    return next(islice(free, pending, None))


def _suggest(trial: optuna.Trial, knob: Knob) -> float:
    if knob.integer:
        return trial.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.scale == "log")
    return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.scale == "log")
