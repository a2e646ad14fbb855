"""KnobSampler: expected improvement over any method's knobs as an ordinary Optuna sampler; its maths lives in
``surrogate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from ssdtune.arrays import Array
from ssdtune.prior.knobs import KnobPrior
from ssdtune.samplers.guard import is_given, unled
from ssdtune.samplers.knob_choice import KnobChoice
from ssdtune.samplers.reading import (
    SeededSampler,
    Trials,
    incumbent_of,
    into,
    one_thread,
    others_of,
    scored_of,
    waiting_before,
)
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen, Seen

_SAME = 1e-6  # places that differ by less are one setting


class _Read(NamedTuple):
    """Of trials by their numbers: the places (D,) of those that have all knobs, those that were scored, and outputs and
    errors (2, 2) of these."""

    places: Mapping[int, Array]
    scored: Mapping[int, FrozenTrial]
    outputs: Mapping[int, Array]

    def at(self, trials: Iterable[FrozenTrial], dimensions: int) -> Array:
        """(n, D) places."""
        return np.array([self.places[trial.number] for trial in trials]).reshape(-1, dimensions)


def _is_pruned(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.PRUNED


class KnobSampler(SeededSampler):
    """Samples a method's knobs by expected improvement of the score, around what other tasks foretell if anything does.

    The first trial is the prior's mode; then Gaussian processes around its members, and one that assumes nothing, are
    weighed by the trials. A prior without members has only the last, and begins with its first place. Beside members,
    two trials of three are the search's that has none, as if it were alone (``samplers.guard``), but where the other
    has tried the same: whatever the prior says, what that finds in n trials is found in 1.5 n + 2.
    Every proposal depends only on (seed, study name, how many earlier trials have not failed) and on what the storage
    holds. Trials are read as by ``SpectrumSampler``; where their values are not this score, and for parameters that the
    prior does not have, ``independent_sampler`` serves.

    Parameters
    ----------
    prior : of the study's method and task. seed : None draws one.
    goal : default the prior's. guard : False leaves all trials to the members.
    independent_sampler : default a TPESampler, seeded per trial and parameter.
    """

    def __init__(
        self,
        prior: KnobPrior,
        *,
        seed: int | None = None,
        goal: Goal | None = None,
        guard: bool = True,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        goal = goal or prior.goal
        self._prior = prior if goal == prior.goal else prior.with_goal(goal.retain_weight, goal.min_retained)
        self._guard = guard and prior.foreseen is not None
        super().__init__(seed, independent_sampler)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The prior's knobs, over its ranges."""
        return {
            knob.name: IntDistribution(int(knob.low), int(knob.high), log=knob.scale == "log")
            if knob.integer
            else FloatDistribution(knob.low, knob.high, log=knob.scale == "log")
            for knob in self._prior.knobs
        }

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All knobs together; by the independent sampler where the values are not this sampler's score."""
        self._check_single(study)
        names = {knob.name for knob in self._prior.knobs}
        turn = self._turn(study, trial)
        if turn is None or names != search_space.keys():
            return {n: self.sample_independent(study, trial, n, each) for n, each in search_space.items()}
        choice, others = turn
        with one_thread():
            for _ in range(waiting_before(others, trial, names)):  # each as its own process would choose it
                choice = choice.after_running(choice.place)
            setting = self._prior.setting(choice.place)
        return {name: into(search_space[name], value) for name, value in setting.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What the prior does not know, or not over this range."""
        self._check_single(study)
        others = others_of(study, trial)
        sampler = self._fallback(study, others, trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _turn(self, study: optuna.Study, trial: FrozenTrial) -> tuple[KnobChoice, Trials] | None:
        """The trial's choice, and the other trials that its search sees; None where the values are not this score."""
        others = others_of(study, trial)
        read = self._read(study, others)
        if read is None:
            return None
        own = unled(others, trial) if self._guard else None
        alone = None if own is None else self._alone(study, read, others, own, trial)
        if alone is not None:
            return self._choice(study, None, read, alone, trial), alone
        return self._choice(study, self._prior.foreseen, read, others, trial), others

    def _read(self, study: optuna.Study, trials: Trials) -> _Read | None:
        """None where the values are not this score."""
        placed = [trial for trial in trials if all(knob.name in trial.params for knob in self._prior.knobs)]
        found = scored_of(study, placed, self._prior.goal)
        if found is None:
            return None
        scored = {trial.number: trial for trial in found[0]}
        outputs = dict(zip(scored, found[1], strict=True))
        return _Read({trial.number: self._prior.place(trial.params) for trial in placed}, scored, outputs)

    def _alone(
        self, study: optuna.Study, read: _Read, others: Trials, own: Trials, trial: FrozenTrial
    ) -> list[FrozenTrial] | None:
        """What the search without prior has seen before its turn; None where it needs none.

        Where the search with members has tried what it would try next, or is trying it, it takes what that comes to,
        and its turn is left to that search.
        """
        turns = {each.number for each in own}
        theirs = {each.number: each for each in others if each.number not in turns}
        tried = {each.number for each in others if each.state == TrialState.RUNNING} | read.scored.keys()
        led = {number: place for number, place in read.places.items() if number in theirs and number in tried}
        seen: list[FrozenTrial] = []
        for turn in own:
            met = None if is_given(turn) else self._met(study, read, seen, led, turn)
            if met is None:
                seen.append(turn)
            elif turn.state != TrialState.FAIL:  # that gives its place back
                seen.append(theirs[met])
                del led[met]
                if turn.number in tried and turn.number in read.places:
                    theirs[turn.number], led[turn.number] = turn, read.places[turn.number]
        return seen if is_given(trial) or self._met(study, read, seen, led, trial) is None else None

    def _met(
        self, study: optuna.Study, read: _Read, seen: Trials, led: Mapping[int, Array], turn: FrozenTrial
    ) -> int | None:
        """The number of the trial by the search with members that the one without would make at its turn."""
        before = {number: place for number, place in led.items() if number < turn.number}
        if not before:
            return None
        with one_thread():
            place = self._choice(study, None, read, seen, turn).place
        return next((number for number, other in before.items() if np.abs(other - place).max() < _SAME), None)

    def _choice(
        self, study: optuna.Study, foreseen: Foreseen | None, read: _Read, others: Trials, trial: FrozenTrial
    ) -> KnobChoice:
        """What a trial's search chooses that sees these others."""
        dimensions = len(self._prior.knobs)
        placed = [each for each in others if each.number in read.places]
        running, failed = (
            read.at((each for each in placed if each.state == state), dimensions)
            for state in (TrialState.RUNNING, TrialState.FAIL)
        )
        scored = sorted((each for each in others if each.number in read.scored), key=_is_pruned)
        outputs = np.array([read.outputs[each.number] for each in scored]).reshape(-1, 2, 2)
        complete = len(scored) - sum(map(_is_pruned, scored))
        return KnobChoice(
            self._prior,
            foreseen,
            Seen(read.at(scored, dimensions), outputs[:, 0].T, outputs[:, 1].T),
            incumbent=incumbent_of(outputs[:complete], self._prior.goal),
            running=running,
            failed=failed[[i for i, place in enumerate(failed) if (failed == place).all(axis=1).sum() > 1]],
            seed=self._seed_of(study, others, trial, "setting"),
        )
