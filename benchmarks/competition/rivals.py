"""The rivals of the spectrum sampler: samplers that know the plane's coordinates or the prior's mode, and rules.

Plain samplers (TPE, GPSampler, CMA-ES, random) are in ``ssdtune.samplers.table``. Here are variants that a study does
not offer, and choosers that name one setting without any search. phi is the share of the given forget samples among all
training samples, rho the selected fraction, kappa = lambda / alpha.

Sources: SSD (Foster et al., AAAI 2024); ASSD (Schoepf et al., arXiv 2402.10098); PTN search of Potion (Schoepf et al.,
arXiv 2406.09173), in the form of the authors' code (github.com/if-loops/towards_poison_unlearning, commit 5b5e83f).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from ssdtune.plane.settings import KAPPA_RANGE, RHO_RANGE
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

_PLANE: dict[str, BaseDistribution] = {
    "rho": FloatDistribution(*RHO_RANGE, log=True),
    "kappa": FloatDistribution(*KAPPA_RANGE, log=True),
}
_PAIR = (ALPHA, LAMBDA)


class Setting(NamedTuple):
    """One point of SSD's plane."""

    alpha: float
    lam: float

    @property
    def effective(self) -> Setting:
        """The same dampening with lambda <= alpha."""
        return self._replace(alpha=max(self.alpha, self.lam))


class Plane(Protocol):
    """The map between thresholds and selected fractions; a Fisher analysis is one."""

    def selected_fraction(self, alpha: float) -> float: ...

    def alpha_at(self, rho: float) -> float: ...


@dataclass(frozen=True)
class Given:
    """What a rival may know of a task: the plane, and the prior's mode ``{"alpha", "lambda"}``."""

    plane: Plane | None = None
    mode: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Rival:
    """A sampler, ``make(seed, given)``, and its settings in words."""

    make: Callable[[int, Given], BaseSampler]
    settings: str


class PlaneSampler(BaseSampler):
    """Lets ``inner`` search (log rho, log kappa) while the trial's parameters stay alpha and lambda.

    ``inner`` works on a study of its own in memory, made again for every proposal from the finished and running trials,
    so nothing but the storage is remembered. Proposals are clipped into the study's box.
    """

    def __init__(self, inner: BaseSampler, plane: Plane) -> None:
        self._inner, self._plane = inner, plane
        self._proposals: dict[int, dict[str, float]] = {}

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: the pair is chosen when its first parameter is asked for."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """alpha and lambda of one proposal of ``inner``."""
        if param_name not in _PAIR:
            return self._inner.sample_independent(study, trial, param_name, param_distribution)
        if trial.number not in self._proposals:
            self._proposals[trial.number] = self._propose(study, trial)
        return _into(param_distribution, self._proposals[trial.number][param_name])

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._proposals.pop(trial.number, None)

    def _propose(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, float]:
        shadow = optuna.create_study(direction=study.direction, sampler=self._inner)
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        shadow.add_trials([moved for other in others if (moved := self._moved(other)) is not None])
        place = shadow.ask(_PLANE).params
        alpha = float(self._plane.alpha_at(place["rho"]))
        return {ALPHA: alpha, LAMBDA: alpha * place["kappa"]}

    def _moved(self, trial: FrozenTrial) -> FrozenTrial | None:
        """The trial in the plane's coordinates; None where it has no parameters or has failed."""
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING):
            return None
        if not all(name in trial.params for name in _PAIR):
            return None
        effective = max(trial.params[ALPHA], trial.params[LAMBDA])
        params = {
            "rho": _into(_PLANE["rho"], float(self._plane.selected_fraction(effective))),
            "kappa": _into(_PLANE["kappa"], trial.params[LAMBDA] / effective),
        }
        finished = trial.state == TrialState.COMPLETE
        return create_trial(
            state=trial.state,
            value=trial.value if finished else None,
            params=params,
            distributions=_PLANE,
            constraints=trial.constraints if finished else None,
        )


class FirstAt(BaseSampler):
    """Serves ``first`` (``{"alpha", "lambda"}``) as a study's first trial, then ``inner``; nothing is enqueued."""

    def __init__(self, first: Mapping[str, float], inner: BaseSampler) -> None:
        self._first, self._inner = dict(first), inner

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if _is_first(study, trial) else self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name in self._first and _is_first(study, trial):
            return _into(param_distribution, self._first[param_name])
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)


def _plane(inner: BaseSampler, given: Given) -> BaseSampler:
    assert given.plane is not None
    return PlaneSampler(inner, given.plane)


def _first_at_mode(inner: BaseSampler, given: Given) -> BaseSampler:
    assert given.mode is not None
    return FirstAt(given.mode, inner)


_PLANE_WORDS = (
    f"log rho in [{RHO_RANGE[0]:g}, {RHO_RANGE[1]:g}], log kappa in [{KAPPA_RANGE[0]:g}, {KAPPA_RANGE[1]:g}], "
    "through the analysis, clipped into the study's box"
)

RIVALS: dict[str, Rival] = {
    "tpe-4": Rival(
        lambda seed, _: TPESampler(n_startup_trials=4, seed=seed),
        "TPESampler, Optuna 5 defaults but 4 start-up trials",
    ),
    "tpe-plane": Rival(
        lambda seed, given: _plane(TPESampler(seed=seed), given),
        f"TPESampler, Optuna 5 defaults, over (rho, kappa): {_PLANE_WORDS}",
    ),
    "tpe-mode": Rival(
        lambda seed, given: _first_at_mode(TPESampler(seed=seed), given),
        "TPESampler, Optuna 5 defaults, whose first trial is the prior's mode",
    ),
    "gp-plane": Rival(
        lambda seed, given: _plane(GPSampler(seed=seed, warn_independent_sampling=False), given),
        f"GPSampler, Optuna 5 defaults, over (rho, kappa): {_PLANE_WORDS}",
    ),
}
"""Samplers by name, beside those of ``ssdtune.samplers.table.SAMPLERS``."""

# choosers: one setting, without any search
PUBLISHED = Setting(10.0, 1.0)
STEP, START, CUT, MOST_STEPS = 1.1, 1 / 25, 0.2, 500

CHOOSERS: dict[str, str] = {
    "ssd-default": "SSD's published default: alpha 10, lambda 1",
    "assd": "ASSD: alpha at the percentile P = 100 - ln(1 + 100 phi) of the ratios f / o over retain; lambda 1",
    "ptn": "PTN search of Potion: ASSD's rule with phi / 25 in place of phi, multiplied by 1.1 until remembered is at "
    "most 0.2 (the authors' code: forget accuracy at most p_cut times the untouched model's, p_cut swept from 0 to "
    "0.75; accuracy has the floor 0 that calibration gives remembered); retain quality is not looked at",
    "best-fixed": "the one (rho, kappa) of the largest mean s over the training tasks, feasible or not counted as w",
}
"""Settings in words of the choosers."""


def percentile_setting(plane: Plane, phi: float) -> Setting:
    """ASSD's rule (arXiv 2402.10098, section 3): alpha at a percentile of the ratios, lambda 1."""
    selected = min(math.log(1 + 100 * phi) / 100, 1.0)
    return Setting(float(plane.alpha_at(selected)), 1.0)


def step_settings(plane: Plane, phi: float) -> Iterator[Setting]:
    """PTN's settings in order, from mild to harsh."""
    share = phi * START
    for _ in range(MOST_STEPS):
        yield percentile_setting(plane, share)
        share *= STEP


def step_rule(plane: Plane, phi: float, remembered: Callable[[Setting], float]) -> tuple[Setting, int]:
    """PTN's choice, and how many evaluations of ``remembered`` it took; the last setting where none reaches the cut."""
    setting, count = PUBLISHED, 0
    for setting in step_settings(plane, phi):
        count += 1
        if remembered(setting) <= CUT:
            break
    return setting, count


def _is_first(study: optuna.Study, trial: FrozenTrial) -> bool:
    earlier = (other for other in study.get_trials(deepcopy=False) if other.number < trial.number)
    return all(other.state == TrialState.FAIL for other in earlier)


def _into(distribution: BaseDistribution, value: float) -> float:
    assert isinstance(distribution, FloatDistribution)
    return float(min(max(value, distribution.low), distribution.high))
