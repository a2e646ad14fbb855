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
from ssdtune.study.large import storage_of, trial_id_of
from ssdtune.study.lost import sign_of_life, worker_name
from ssdtune.study.own import OwnView
from ssdtune.study.record import ORIGIN, SEED_NUMBER, WORKER, StudyRecord, interrupted, origin_of
from ssdtune.study.trials import FINISHED, tried_of
from ssdtune.unlearning.method import Choice, Chooser, Knob, Setting


@dataclass(frozen=True)
class Asked:
    """A trial under way: its setting, and the study's other trials when it began."""

    trial: optuna.Trial
    setting: Setting
    others: Sequence[FrozenTrial]


def ask(study: OwnView, record: StudyRecord, sampler: SamplerFactory, budget: int) -> Asked | None:
    """The next trial, or None where those finished and under way make up the budget.

    Two processes may take the last place at the same moment: the trial of the higher number gives way.
    """
    counted = (*FINISHED, TrialState.RUNNING)
    trials = study.trials()
    if sum(other.state in counted for other in trials) >= budget or _choice(record, trials, budget) is None:
        return None
    study.study.sampler = RandomSampler()  # asked nothing: the trial's own is made once its number is known
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # ``lost.signs_of_life`` records them
        trial, seed, others = _signed(study, trials)
    choice = _choice(record, others, budget)
    if choice is None or sum(other.number < trial.number and other.state in counted for other in others) >= budget:
        study.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return ask(study, record, sampler, budget)
    alike = others
    if len(choice.knobs) < len(record.knobs):  # what other knobs came to says nothing of these
        alike = [other for other in others if all(knob.name in other.params for knob in choice.knobs)]
    study.study.sampler = sampler.make(seed, alike)  # none of them has anything to do before a trial
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Constraints have been set")  # CMA-ES; the sampler's settings say so
        if choice.given:
            study.study.sampler = PartialFixedSampler(dict(choice.given), study.study.sampler)
        with study.together():
            setting = {knob.name: _suggest(trial, knob) for knob in choice.knobs}
    return Asked(trial, setting, others)


def _signed(study: OwnView, trials: Sequence[FrozenTrial]) -> tuple[optuna.Trial, int, list[FrozenTrial]]:
    """A new trial that says who runs it and what seeds it, its seed, and the other trials as they are then.

    ``trials`` : all there were before. Several processes may choose one seed. Each stores its own and then looks, so
    that of two at least one finds out, and takes another. A new trial is made with its seed, and its number says which
    of two was made first, so there the first one may keep it.
    """
    seed = seed_number(len(trials), trials)
    trial, seen = study.ask({ORIGIN: {WORKER: worker_name(), SEED_NUMBER: seed}})
    made = ORIGIN in trial.user_attrs
    if not made:  # one that waited
        sign_of_life(storage_of(study.study), trial_id_of(trial))
        trial.set_user_attr(ORIGIN, {WORKER: worker_name(), SEED_NUMBER: seed})
        seen = study.look()
    while True:
        others = [other for other in seen if other.number != trial.number]
        used = {other.number: origin_of(other).get(SEED_NUMBER) for other in others if not interrupted(other)}
        alike = [number for number, other in used.items() if other == seed]
        earlier = sum(number < trial.number for number in alike)
        if not (earlier if made else alike):
            return trial, seed, others
        free = (number for number in count() if number not in used.values())
        seed = next(islice(free, earlier - made, None))
        trial.set_user_attr(ORIGIN, {WORKER: worker_name(), SEED_NUMBER: seed})
        made, seen = False, study.look()


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
