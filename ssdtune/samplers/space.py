"""The search space of every study: alpha and lambda, log floats, so that all samplers see the same.

Coordinates of the plane: rho in [0, 1] is the selected fraction (share of parameters with f / o > alpha), kappa in
(0, 1] the depth lambda / alpha. A setting with lambda > alpha equals (lambda, lambda): parameters between the two are
selected but dampened by min(lambda / r, 1) = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import optuna

from ssdtune.studyfile import SearchSection

if TYPE_CHECKING:
    from torch import Tensor

ALPHA, LAMBDA = "alpha", "lambda"


class Analysis(Protocol):
    """What a search needs of a Fisher analysis."""

    def dampen(self, alpha: float, lam: float, exponent: float = 1.0) -> Mapping[str, Tensor]: ...

    def selected_fraction(self, alpha: float) -> float: ...

    def alpha_at(self, rho: float) -> float: ...


class Setting(NamedTuple):
    """One point of the plane, with the exponent that goes with it."""

    alpha: float
    lam: float
    exponent: float = 1.0

    @property
    def effective(self) -> Setting:
        """The same dampening with lambda <= alpha."""
        return self._replace(alpha=max(self.alpha, self.lam))


@dataclass(frozen=True)
class SearchSpace:
    """Bounds of alpha and lambda (both searched on a log scale) and the fixed exponent."""

    alpha: tuple[float, float]
    lam: tuple[float, float]
    exponent: float = 1.0

    @classmethod
    def of(cls, section: SearchSection) -> SearchSpace:
        return cls(section.alpha, section.lam, section.exponent)

    @property
    def distributions(self) -> dict[str, optuna.distributions.FloatDistribution]:
        """Optuna's form, by parameter name."""
        return {
            ALPHA: optuna.distributions.FloatDistribution(*self.alpha, log=True),
            LAMBDA: optuna.distributions.FloatDistribution(*self.lam, log=True),
        }

    def suggest(self, trial: optuna.Trial) -> Setting:
        """Ask the trial's sampler for a setting."""
        alpha = trial.suggest_float(ALPHA, *self.alpha, log=True)
        lam = trial.suggest_float(LAMBDA, *self.lam, log=True)
        return Setting(alpha, lam, self.exponent)

    def clip(self, setting: Setting) -> Setting:
        """The nearest setting inside the bounds."""
        return Setting(_into(setting.alpha, self.alpha), _into(setting.lam, self.lam), self.exponent)


def coordinates(analysis: Analysis, setting: Setting) -> tuple[float, float]:
    """(rho, kappa) of a setting."""
    effective = setting.effective
    return float(analysis.selected_fraction(effective.alpha)), effective.lam / effective.alpha


def setting_at(analysis: Analysis, rho: float, kappa: float, exponent: float = 1.0) -> Setting:
    """The setting at (rho, kappa); not clipped to any bounds."""
    alpha = float(analysis.alpha_at(rho))
    return Setting(alpha, alpha * kappa, exponent)


def _into(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
