"""The samplers of a study by name, each with its settings stated, and seeding that survives a stop.

An Optuna sampler loses the state of its random generator when the process ends, so every trial has a fresh one, seeded
by (seed, study name, the trial's seed number): a study that was stopped and resumed proposes what it would have
proposed. All that a sampler learns comes from the storage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from ssdtune.errors import ConfigError, nearest
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.prior.knobs import KnobPrior
from ssdtune.samplers.knobs import KnobSampler
from ssdtune.samplers.spectrum import SpectrumSampler
from ssdtune.samplers.view import Trials, ViewSampler, estimates_as_values
from ssdtune.surrogate.improvement import Goal

Prior = HyperparameterPrior | KnobPrior


@dataclass(frozen=True)
class Inputs:
    """What a sampler may be made from; the prior is there as far as the study has one. ``blank`` : gives the study's
    knobs without one; None where there are none."""

    trial_seed: int
    study_seed: int
    goal: Goal
    prior: Prior | None = None
    blank: Callable[[], KnobPrior | None] = lambda: None


@dataclass(frozen=True)
class SamplerChoice:
    """One sampler: how to make it, its settings in words, whether it sees min_retained, whether it uses the prior,
    whether it searches the plane of SSD's knobs alone, whether it learns from trials that were stopped early (for
    others no trial is), and whether it keeps something of its own in the storage."""

    make: Callable[[Inputs], BaseSampler]
    settings: str
    sees_constraint: bool
    uses_prior: bool = False
    of_the_plane: bool = False
    sees_stopped: bool = True
    keeps_state: bool = False


def _spectrum(given: Inputs) -> BaseSampler:
    # its seeds count trials themselves, so one seed a study serves
    goal, prior = given.goal, given.prior
    assert not isinstance(prior, KnobPrior)
    return SpectrumSampler(
        prior, seed=given.study_seed, retain_weight=goal.retain_weight, min_retained=goal.min_retained
    )


def _tpe(given: Inputs) -> BaseSampler:
    return ViewSampler(TPESampler(seed=given.trial_seed), estimates_as_values)


def _knobs(given: Inputs) -> BaseSampler:
    prior = given.prior if isinstance(given.prior, KnobPrior) else given.blank()
    return KnobSampler(prior, seed=given.study_seed, goal=given.goal) if prior is not None else _tpe(given)


SAMPLERS: dict[str, SamplerChoice] = {
    "spectrum": SamplerChoice(
        _spectrum,
        "SpectrumSampler: the learned prior's mode first, then constrained expected improvement of the score by "
        "Gaussian processes on retained and remembered around the prior's surfaces, beside a generic ensemble; two "
        "trials of three by the same search without prior, as if it were alone",
        sees_constraint=True,
        uses_prior=True,
        of_the_plane=True,
    ),
    "ei": SamplerChoice(
        _knobs,
        "KnobSampler: constrained expected improvement of the score by Gaussian processes on retained and remembered "
        "over the knobs, around what other tasks foretell where a mapper knows the method, and there two trials of "
        "three by the same search without that, as if it were alone; the mode or the first published setting first",
        sees_constraint=True,
        uses_prior=True,
    ),
    "tpe": SamplerChoice(
        _tpe,
        "TPESampler, Optuna 5 defaults: multivariate, constant_liar, 10 start-up trials, 24 candidates",
        sees_constraint=True,
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
        keeps_state=True,
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
        keeps_state=True,
    ),
    "random": SamplerChoice(
        lambda given: RandomSampler(seed=given.trial_seed),
        "RandomSampler: each knob on its own scale",
        sees_constraint=False,
    ),
}


def choose_sampler(name: str, where: object = "search.sampler") -> SamplerChoice:
    """The named sampler's table entry; ``where`` it is named.

    Raises
    ------
    ConfigError : there is no such sampler.
    """
    if name not in SAMPLERS:
        todo = nearest(name, SAMPLERS) or f"choose one of {', '.join(SAMPLERS)}"
        raise ConfigError(f"no sampler '{name}'", where, todo)
    return SAMPLERS[name]


@dataclass(frozen=True)
class SamplerFactory:
    """Makes the sampler of every trial of one study. ``prior`` : asked for the study's prior as it is now."""

    choice: SamplerChoice
    seed: int
    study_name: str
    goal: Goal
    prior: Callable[[], Prior | None] = lambda: None
    blank: Callable[[], KnobPrior | None] = lambda: None

    def make(self, seed_number: int, others: Trials | None = None) -> BaseSampler:
        """The sampler of the trial with this seed number. ``others`` : the study's other trials, where they have been
        read already, so that it need not read them itself."""
        trial_seed = seed_of(self.seed, self.study_name, f"trial {seed_number}")
        study_seed = seed_of(self.seed, self.study_name, "study")
        prior = self.prior() if self.choice.uses_prior else None
        made = self.choice.make(Inputs(trial_seed, study_seed, self.goal, prior, self.blank))
        return made if others is None or self.choice.keeps_state else ViewSampler(made, lambda study: others)


def seed_of(seed: int, study_name: str, what: str) -> int:
    """A 32-bit seed by identity, the same on every machine."""
    digest = hashlib.blake2b(f"{seed}\n{study_name}\n{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
