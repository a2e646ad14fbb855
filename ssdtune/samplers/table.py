"""The samplers of a study by name, each with its settings stated, and seeding that survives a stop.

An Optuna sampler loses the state of its random generator when the process ends. ``ReproducibleSampler`` gives every
trial a fresh sampler, seeded by (seed, study name, seed number), so a study that was stopped and resumed proposes what
it would have proposed. All that a sampler learns comes from the storage.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from ssdtune.errors import ConfigError
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.samplers.estimates import Shown, View, as_it_is, completed
from ssdtune.samplers.recorded import SEED_NUMBER, origin
from ssdtune.samplers.rivals import RIVALS, Given, Plane, Rival
from ssdtune.samplers.spectrum import SpectrumSampler
from ssdtune.surrogate.improvement import Goal

ERROR = "error"


@dataclass(frozen=True)
class Inputs:
    """What a sampler may be made from; plane and prior are there as far as the study has them."""

    trial_seed: int
    study_seed: int
    goal: Goal
    prior: HyperparameterPrior | None = None
    plane: Plane | None = None


@dataclass(frozen=True)
class SamplerChoice:
    """One sampler: how to make it, its settings in words, whether it sees min_retained, whether it uses the prior,
    whether it learns from trials that were stopped early (for others no trial is), how it is shown trials, if they
    are all it reads of a study (``search.estimates``), and how many first trials it draws whatever others came to."""

    make: Callable[[Inputs], BaseSampler]
    settings: str
    sees_constraint: bool
    uses_prior: bool = False
    sees_stopped: bool = True
    view: View | None = None
    drawn: float = 0


def _spectrum(given: Inputs) -> BaseSampler:
    # its seeds count trials themselves, so one seed a study serves
    goal = given.goal
    return SpectrumSampler(
        given.prior, seed=given.study_seed, retain_weight=goal.retain_weight, min_retained=goal.min_retained
    )


def _rival(name: str, rival: Rival) -> SamplerChoice:
    def make(given: Inputs) -> BaseSampler:
        known = Given(given.plane, given.prior.mode if given.prior is not None else None)
        if rival.needs and getattr(known, rival.needs) is None:
            what = {"mode": "a prior", "plane": "an analysis"}[rival.needs]
            raise ConfigError(f"sampler '{name}' needs {what}", "search.sampler", "choose another")
        return rival.make(given.trial_seed, known)

    return SamplerChoice(make, rival.settings, rival.sees_constraint, rival.needs == "mode", sees_stopped=False)


SAMPLERS: dict[str, SamplerChoice] = {
    "spectrum": SamplerChoice(
        _spectrum,
        "SpectrumSampler: the learned prior's mode first, then constrained expected improvement of the score by "
        "Gaussian processes on retained and remembered around the prior's surfaces, beside a generic ensemble",
        sees_constraint=True,
        uses_prior=True,
        view=as_it_is,
    ),
    "tpe": SamplerChoice(
        lambda given: TPESampler(seed=given.trial_seed),
        "TPESampler, Optuna 5 defaults: multivariate, constant_liar, 10 start-up trials, 24 candidates",
        sees_constraint=True,
        view=completed,
        drawn=10,
    ),
    "gp": SamplerChoice(
        lambda given: GPSampler(seed=given.trial_seed, warn_independent_sampling=False),
        "GPSampler, Optuna 5 defaults: Matern 5/2, log constrained expected improvement, 10 start-up trials; "
        "kernel refitted from scratch at every trial",
        sees_constraint=True,
        sees_stopped=False,
    ),
    "cmaes": SamplerChoice(
        # Its own seed formula adds the trial number, so one seed a study serves the relative part.
        lambda given: CmaEsSampler(
            seed=given.study_seed,
            independent_sampler=RandomSampler(seed=given.trial_seed),
            warn_independent_sampling=False,
        ),
        "CmaEsSampler, Optuna 5 defaults: 1 start-up trial, sigma0 a sixth of the box; blind to min_retained; "
        "its seed adds the trial number, so an interrupted trial shifts its draws",
        sees_constraint=False,
        sees_stopped=False,
    ),
    "qmc": SamplerChoice(
        lambda given: QMCSampler(
            scramble=True,
            seed=given.study_seed,
            independent_sampler=RandomSampler(seed=given.trial_seed),
            warn_independent_sampling=False,
        ),
        "QMCSampler, scrambled Sobol, first trial random; an interrupted trial's point is skipped",
        sees_constraint=False,
    ),
    "random": SamplerChoice(
        lambda given: RandomSampler(seed=given.trial_seed),
        "RandomSampler: log-uniform in the box",
        sees_constraint=False,
        drawn=math.inf,
    ),
    **{name: _rival(name, rival) for name, rival in RIVALS.items()},
}


def choose_sampler(name: str) -> SamplerChoice:
    """The named sampler's table entry.

    Raises
    ------
    ConfigError : there is no such sampler.
    """
    if name not in SAMPLERS:
        raise ConfigError(f"no sampler '{name}'", "search.sampler", f"choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def build_sampler(
    name: str,
    seed: int,
    study_name: str,
    *,
    goal: Goal | None = None,
    prior: HyperparameterPrior | None = None,
    plane: Plane | None = None,
) -> ReproducibleSampler:
    """The named sampler, seeded for one study.

    goal : what the study seeks; default the prior's, without one a retain_weight of 0.2 and min_retained of 0.95.
    prior : without one ``spectrum`` assumes nothing of the task. plane : the Fisher analysis.

    Raises
    ------
    ConfigError : there is no such sampler; when a trial is asked for, that it needs a prior or an analysis.
    """
    choice = choose_sampler(name)
    goal = goal or (prior.goal if prior is not None else Goal())
    study_seed = seed_of(seed, study_name, "study")

    def make(number: int) -> BaseSampler:
        return choice.make(Inputs(seed_of(seed, study_name, f"trial {number}"), study_seed, goal, prior, plane))

    return ReproducibleSampler(make, view=choice.view, drawn=choice.drawn)


def seed_of(seed: int, study_name: str, what: str) -> int:
    """A 32-bit seed by identity, the same on every machine."""
    digest = hashlib.blake2b(f"{seed}\n{study_name}\n{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def seed_number(trial: FrozenTrial, others: Sequence[FrozenTrial]) -> int:
    """The number that seeds a trial: the lowest that no earlier trial has used up.

    It is the trial's own number as long as no trial was interrupted. An interrupted trial (failed without an error of
    its own) gives its number back, so the trial that takes its place repeats its proposal. Earlier trials of other
    processes that have not stored theirs yet take the lowest ones.
    """
    earlier = [other for other in others if other.number < trial.number and not interrupted(other)]
    known = [origin(other).get(SEED_NUMBER) for other in earlier]
    used, pending = set(known), known.count(None)
    free = (number for number in range(trial.number + 1) if number not in used)
    return next(islice(free, pending, None))


def interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial ended because its process was stopped, not because its evaluation failed."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


class ReproducibleSampler(BaseSampler):
    """Asks a freshly made sampler, ``make(seed_number)``, for every trial.

    ``seed_numbers`` holds the numbers of trials under way; whoever runs the trial stores it (``search.recorded``).
    ``trials`` holds what the study had when a trial under way began, that trial among it. ``view`` : see
    ``search.estimates``; None shows the study itself. ``drawn`` : trials of lower seed numbers are drawn independently.
    """

    def __init__(self, make: Callable[[int], BaseSampler], *, view: View | None = None, drawn: float = 0) -> None:
        self._make, self._view, self._drawn = make, view, drawn
        self._samplers: dict[int, BaseSampler] = {}
        self._memory: Shown | None = None
        self._shown: dict[int, optuna.Study] = {}
        self.last_read: list[FrozenTrial] = []
        self.seed_numbers: dict[int, int] = {}
        self.trials: dict[int, list[FrozenTrial]] = {}

    def read(self, study: optuna.Study) -> list[FrozenTrial]:
        """All trials of the study; the next trial need not read them again where they cannot have changed."""
        self.last_read = study.get_trials(deepcopy=False)
        return self.last_read

    def coming(
        self, study: optuna.Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> Iterator[dict[str, Any]]:
        """What the trials after one under way will propose, one after the other, as long as results do not matter.

        A guess where trials were interrupted or other processes run some: they take numbers too.
        """
        number, seen = self.seed_numbers[trial.number] + 1, self._seen(study, trial)
        while number < self._drawn:
            sampler = self._make(number)
            yield {name: sampler.sample_independent(seen, trial, name, of) for name, of in space.items()}
            number += 1

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        trials = self._trials_of(study, trial)
        number = seed_number(trial, trials)
        self.trials[trial.number], self.seed_numbers[trial.number] = trials, number
        self._samplers[trial.number] = self._make(number)
        if self._view is not None:
            if self._memory is None:
                self._memory = Shown(study, self._view)
            self._shown[trial.number] = self._memory.show(trials)
        self._samplers[trial.number].before_trial(self._seen(study, trial), trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._samplers[trial.number].infer_relative_search_space(self._seen(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._samplers[trial.number].sample_relative(self._seen(study, trial), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._samplers[trial.number].sample_independent(
            self._seen(study, trial), trial, param_name, param_distribution
        )

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.seed_numbers.pop(trial.number, None)
        self.trials.pop(trial.number, None)
        self._shown.pop(trial.number, None)
        sampler = self._samplers.pop(trial.number, None)
        if sampler is not None:
            sampler.after_trial(study, trial, state, values)

    def _seen(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        """The study as the sampler is to see it."""
        return self._shown.get(trial.number, study)

    def _trials_of(self, study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
        known = self.last_read
        if len(known) == trial.number and all(other.state.is_finished() for other in known):
            return [*known, trial]  # finished trials stay as they are, and none has come between
        return study.get_trials(deepcopy=False)
