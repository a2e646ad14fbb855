"""Asking a study for its next trial: a place in the budget, a seed that survives a stop, a setting from the sampler."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import optuna
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from ssdtune.samplers.table import SamplerFactory
from ssdtune.study.large import storage_of, trial_id_of
from ssdtune.study.lost import give_back, sign_of_life, worker_name
from ssdtune.study.own import OwnView
from ssdtune.study.record import ORIGIN, SEED_NUMBER, WORKER, StudyRecord, interrupted, origin_of
from ssdtune.study.trials import FINISHED, Ended, tried_of
from ssdtune.unlearning.method import Choice, Chooser, Knob, Setting


@dataclass(frozen=True)
class Asked:
    """A trial under way: its setting, and the study's other trials when it began."""

    trial: optuna.Trial
    setting: Setting
    others: Sequence[FrozenTrial]


def ask(
    study: OwnView, record: StudyRecord, sampler: SamplerFactory, budget: int, seeds: Seeds | None = None
) -> Asked | None:
    """The next trial, or None where those finished and under way make up the budget.

    Two processes may take the last place at the same moment: the trial of the higher number gives way. ``seeds`` : what
    was known when the study was asked last.
    """
    seeds = seeds or Seeds()
    trials = study.trials()
    if seeds.of(trials).taken >= budget or _choice(record, trials, budget) is None:
        return None
    study.study.sampler = RandomSampler()  # asked nothing: the trial's own is made once its number is known
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # ``lost.signs_of_life`` records them
        trial, seed, others = _signed(study, trials, seeds)
    choice = _choice(record, others, budget)
    if choice is None or seeds.of(others, before=trial.number).taken >= budget:
        give_back(study.study, trial.number)
        return ask(study, record, sampler, budget, seeds)
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


def _signed(
    study: OwnView, trials: Sequence[FrozenTrial], seeds: Seeds
) -> tuple[optuna.Trial, int, Sequence[FrozenTrial]]:
    """A new trial that says who runs it and what seeds it, its seed, and the other trials as they are then.

    ``trials`` : all there were before. Several processes may choose one seed. Each stores its own and then looks, so
    that of two at least one finds out, and takes another. A new trial is made with its seed, and its number says which
    of two was made first, so there the first one may keep it.
    """
    used = seeds.of(trials)
    seed = used.lowest_free()
    trial, seen = study.ask({ORIGIN: {WORKER: worker_name(), SEED_NUMBER: seed}}, settled=used.settled)
    made = ORIGIN in trial.user_attrs
    if not made:  # one that waited
        sign_of_life(storage_of(study.study), trial_id_of(trial))
        trial.set_user_attr(ORIGIN, {WORKER: worker_name(), SEED_NUMBER: seed})
        seen = study.look()
    number = trial.number
    while True:
        others = _without(number, seen)
        used = seeds.of(others)
        earlier = seeds.of(others, before=number).users(seed)
        if not (earlier if made else used.users(seed)):
            return trial, seed, others
        seed = used.free(earlier - made)
        trial.set_user_attr(ORIGIN, {WORKER: worker_name(), SEED_NUMBER: seed})
        made, seen = False, study.look()


def _without(number: int, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
    """All trials but that of a number, which is its place unless a storage has lost one."""
    if number < len(trials) and trials[number].number == number:
        return [*trials[:number], *trials[number + 1 :]]
    return [other for other in trials if other.number != number]


def _choice(record: StudyRecord, trials: Sequence[FrozenTrial], budget: int) -> Choice | None:
    """What the next trial searches: all knobs, unless the method chooses; None: it has nothing left to spend."""
    method = record.chosen.method
    if not isinstance(method, Chooser):
        return Choice(record.knobs)
    return method.choose(record.chosen.options, tried_of(trials, record), max(budget, record.search.trials))


@dataclass(frozen=True)
class Used:
    """What trials of a study use: ``taken``, places of its budget; and the numbers that seed them, by how many.

    A seed's number is used by any trial but an interrupted one (failed without an error of its own), which gives it
    back, so the trial that takes its place repeats its proposal. ``pending`` : trials that have not stored theirs yet.
    ``choosing`` : trials under way without a setting, which may still be about to take another number.
    ``low`` : all numbers below it are in use.
    """

    taken: int
    pending: int
    choosing: int
    front: Mapping[int, int]
    rest: Mapping[int, int]
    low: int

    def users(self, seed: int) -> int:
        """Trials that have it."""
        return self.front.get(seed, 0) + self.rest.get(seed, 0)

    @property
    def settled(self) -> bool:
        """Whether no trial is about to take another number than it has: all have one, and no other's, and a setting."""
        return not self.pending and not self.choosing and all(self.users(seed) == 1 for seed in self.rest)

    def free(self, place: int) -> int:
        """The lowest number that no trial has, or the next after ``place`` of them."""
        return next(islice((number for number in count(self.low) if not self.users(number)), place, None))

    def lowest_free(self) -> int:
        """For a new trial: its own number, as long as no trial was interrupted. Trials that have not stored theirs yet
        take the lowest ones."""
        return self.free(self.pending)


class Seeds:
    """``Used`` of one study, again and again: a trial that has ended is looked at once."""

    def __init__(self) -> None:
        self._taken, self._pending, self._low, self._front = 0, 0, 0, Counter[int]()
        self._ended = Ended(self._take)

    def _take(self, trial: FrozenTrial) -> None:
        taken, seed, pending = _use(trial)
        self._taken, self._pending = self._taken + taken, self._pending + pending
        self._front.update(seed)
        while self._low in self._front:
            self._low += 1

    def of(self, trials: Sequence[FrozenTrial], before: int | None = None) -> Used:
        """What all of a study's trials use, or all but one under way; of those alone whose number is ``before`` one."""
        rest = [trial for trial in self._ended.rest(trials) if before is None or trial.number < before]
        used = [_use(trial) for trial in rest]
        choosing = sum(trial.state == TrialState.RUNNING and not trial.params for trial in rest)
        seeds = Counter(seed for _, found, _ in used for seed in found)
        taken, pending = sum(each[0] for each in used), sum(each[2] for each in used)
        return Used(self._taken + taken, self._pending + pending, choosing, self._front, seeds, self._low)


def _use(trial: FrozenTrial) -> tuple[bool, list[int], bool]:
    """Whether it takes a place of the budget, its seed's number if it has one, and whether it is still to have one."""
    found = None if interrupted(trial) else origin_of(trial).get(SEED_NUMBER)
    seed = [] if found is None else [found]
    return trial.state in (*FINISHED, TrialState.RUNNING), seed, found is None and not interrupted(trial)


def _suggest(trial: optuna.Trial, knob: Knob) -> float:
    if knob.integer:
        return trial.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.scale == "log")
    return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.scale == "log")
