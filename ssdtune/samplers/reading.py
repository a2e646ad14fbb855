"""What our samplers read of a study's trials, and how they draw by identity rather than by call order."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ssdtune.arrays import Array
from ssdtune.samplers.outputs import REMEMBERED, RETAINED, STANDARD_ERROR, UNCLIPPED, flat
from ssdtune.surrogate.improvement import Goal

Trials = Sequence[FrozenTrial]

_MOST_WAITING = 8
_UNKNOWN = 10.0  # sd of an output that says nothing


def others_of(study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """The study's other trials."""
    return [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]


def outputs_of(trial: FrozenTrial) -> list[list[float]] | None:
    """[[retained, remembered], [their standard errors]], None where they are not recorded.

    An output that is not finite is recorded as the worst score; its remembered says nothing of the forget set.
    """
    values, errors = [], []
    recorded = flat(trial.user_attrs)
    for name in (RETAINED, REMEMBERED):
        value = recorded.get(name + UNCLIPPED, recorded.get(name))
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        values.append(float(value))
        error = recorded.get(name + STANDARD_ERROR)
        errors.append(float(error) if isinstance(error, int | float) and math.isfinite(error) else 0.0)
    if recorded.get("non_finite"):
        errors[1] = _UNKNOWN
    return [values, errors]


def scored_of(study: optuna.Study, placed: Trials, goal: Goal) -> tuple[list[FrozenTrial], Array, float] | None:
    """What trials that have our knobs came to: (trials, outputs and their errors (n, 2, 2), the incumbent's s).

    Complete trials first, then those that were stopped early; the incumbent is the best feasible complete one, or the
    untouched model. None where the study's values are not this score.
    """
    complete = [trial for trial in placed if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in placed if trial.state == TrialState.PRUNED]
    maximise = study.direction == StudyDirection.MAXIMIZE
    scored = [trial for trial in complete if maximise and _is_score(trial, goal)]
    judged = complete or [trial for trial in pruned if trial.value is not None]
    if judged and not (maximise and any(_is_score(trial, goal) for trial in judged)):
        return None
    seen = [*scored, *(trial for trial in pruned if outputs_of(trial) is not None)]
    outputs = np.array([outputs_of(trial) for trial in seen], float).reshape(-1, 2, 2)
    return seen, outputs, incumbent_of(outputs[: len(scored)], goal)


def incumbent_of(outputs: Array, goal: Goal) -> float:
    """s of the best feasible of complete trials, given their outputs (n, 2, 2), or of the untouched model."""
    retained, remembered = outputs[:, 0].T
    return float(max([goal.untouched, *goal.score(retained, remembered)[goal.feasible(retained)]]))


def _is_score(trial: FrozenTrial, goal: Goal) -> bool:
    """Whether the trial's value is this score of its recorded outputs."""
    outputs = outputs_of(trial)
    if outputs is None or trial.value is None:
        return False
    return abs(float(goal.score(*outputs[0])) - trial.value) < 1e-6


def waiting_before(trials: Trials, trial: FrozenTrial, names: Iterable[str]) -> int:
    """How many trials that started before this one have none of its knobs yet, and will."""
    # choosing takes no longer than a trial: one without parameters before a finished one has lost its process
    latest = max((other.number for other in trials if other.state.is_finished()), default=-1)
    running = [other for other in trials if other.state == TrialState.RUNNING and latest < other.number < trial.number]
    return min(sum(not all(name in other.params for name in names) for other in running), _MOST_WAITING)


class SeededSampler(BaseSampler):
    """What our samplers share: they draw by identity, and leave to ``independent`` what they do not know.

    seed : None draws one. independent : default a TPESampler, seeded per trial and parameter.
    """

    def __init__(self, seed: int | None, independent: BaseSampler | None) -> None:
        self._seed = secrets.randbits(32) if seed is None else seed
        self._independent = independent

    def reseed_rng(self) -> None:
        """Threads need no reseeding: every proposal has a generator of its own."""
        if self._independent is not None:
            self._independent.reseed_rng()

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        if self._independent is not None:
            self._independent.after_trial(study, trial, state, values)

    def _fallback(self, study: optuna.Study, others: Trials, trial: FrozenTrial, what: str) -> BaseSampler:
        return self._independent or TPESampler(seed=self._seed_of(study, others, trial, what))

    def _seed_of(self, study: optuna.Study, others: Trials, trial: FrozenTrial, what: str) -> int:
        """A seed by identity. A failed trial gives its place back, and names that Optuna invents do not count."""
        place = sum(t.number < trial.number and t.state != TrialState.FAIL for t in others)
        name = "" if study.study_name.startswith("no-name-") else study.study_name
        digest = hashlib.blake2b(f"{self._seed}\n{name}\n{place}\n{what}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little")

    def _check_single(self, study: optuna.Study) -> None:
        if len(study.directions) > 1:
            raise ValueError(f"{type(self).__name__} is for one objective; the study has several")


def into(distribution: BaseDistribution, value: float) -> float:
    """``value`` as one the distribution holds: an ulp outside would silently be sampled anew."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, step = distribution.low, distribution.step
    if step is not None:
        value = low + round((value - low) / step) * step
    inside = min(max(value, low), distribution.high)
    return int(inside) if isinstance(distribution, IntDistribution) else float(inside)


@lru_cache(maxsize=1)
def _blas() -> Any:
    """What sets the threads of NumPy's and SciPy's libraries; None where it is missing, as it may beside Optuna."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """To small matrices, threads that wait for one another cost most."""
    controller = _blas()
    found: AbstractContextManager[Any] = controller.limit(limits=1, user_api="blas") if controller else nullcontext()
    return found
