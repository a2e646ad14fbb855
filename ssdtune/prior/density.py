"""HyperparameterPrior: a density over (alpha, lambda) for one task, one retain_weight and one min_retained.

Notation: surfaces are drawn from the response surface (a member, or the mean with random principal components, plus the
residual process); each draw votes for its best feasible setting, the untouched model where there is none. The votes,
smoothed on a grid over the box, are the density p(alpha, lambda) per decade of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.ndimage import gaussian_filter

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError
from ssdtune.plane.settings import Box, Settings, maximise
from ssdtune.plane.surface import ResponseSurface
from ssdtune.surrogate.belief import CORRELATION, Belief, Expert, experts_of
from ssdtune.surrogate.gp import Kernel, residual_covariance
from ssdtune.surrogate.improvement import Goal

_FORMAT = 2
_DRAWS = 1024
_CELLS = 64
_SMOOTHING = 1.0  # cells
_UNIFORM = 0.01  # share of the density spread evenly over the box: no setting is impossible


@dataclass(frozen=True, eq=False)
class PriorSurface:
    """The prior on a grid over the box; each array but the axes is (A, L), first axis alpha.

    alpha (A,), lam (L,), both rising and even on a log scale. Means and sd are of the clipped outputs and of s;
    ``feasible`` is the probability of retained >= min_retained; ``density`` is that of ``log_prob``, per square decade.
    """

    alpha: Array
    lam: Array
    retained: Array
    retained_sd: Array
    remembered: Array
    remembered_sd: Array
    score: Array
    score_sd: Array
    feasible: Array
    density: Array


@dataclass(frozen=True, eq=False, repr=False)
class HyperparameterPrior:
    """What the forget set's spectrum says of good (alpha, lambda) before any trial.

    Parameters
    ----------
    response : the mapper's prediction for the task.
    retain_weight, min_retained : the goal, as in the score; other goals need no new prediction, see ``with_goal``.
    bounds : the box searched.

    Raises
    ------
    ConfigError : a weight lies outside [0, 1].
    """

    response: ResponseSurface
    retain_weight: float = 0.2
    min_retained: float = 0.95
    bounds: Box = field(default_factory=Box)

    def __post_init__(self) -> None:
        for name in ("retain_weight", "min_retained"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}", "prior", "choose 0 to 1")

    def __repr__(self) -> str:
        goal = f"retain_weight={self.retain_weight:g}, min_retained={self.min_retained:g}"
        return f"HyperparameterPrior(mode={self.mode}, {goal})"

    @property
    def trust(self) -> float:
        """How likely the task is one of the kind that the mapper has learned from, in (0, 1]."""
        return self.response.trust

    @property
    def goal(self) -> Goal:
        """The goal as a value."""
        return Goal(self.retain_weight, self.min_retained)

    def with_goal(self, retain_weight: float, min_retained: float) -> HyperparameterPrior:
        """The prior of the same task under another goal."""
        return HyperparameterPrior(self.response, retain_weight, min_retained, self.bounds)

    @cached_property
    def experts(self) -> list[Expert]:
        """The response surface in its readings, beside the generic ensemble that competes with it for the data."""
        return experts_of(self.response)

    @cached_property
    def leads(self) -> bool:
        """Whether it outweighs the generic ensemble before any trial; a task unlike the experience is left to data."""
        return Belief(self.experts, self.goal).trust > 0.5

    @cached_property
    def mode(self) -> dict[str, float]:
        """The setting to try first, ``{"alpha", "lambda"}``: of largest expected improvement on the untouched model.

        An infeasible trial gains nothing, so near the boundary of min_retained it trades score for safety.
        """
        belief = Belief(experts_of(self.response, hedged=False), self.goal)
        best = maximise(belief.improvement, self.bounds, np.random.default_rng(0))
        return {"alpha": float(best.alpha[0]), "lambda": float(best.lam[0])}

    def sample(self, n: int, seed: int = 0) -> list[dict[str, float]]:
        """``n`` settings ``{"alpha", "lambda"}`` drawn from the density; the same ``seed`` draws the same."""
        rng = np.random.default_rng(seed)
        cells = rng.choice(self._mass.size, size=n, p=self._mass.ravel())
        place = (np.stack(np.unravel_index(cells, self._mass.shape)) + rng.uniform(size=(2, n))) / _CELLS
        low, high = self.bounds.logs.T[:, :, None]
        log_alpha, log_lam = low + (high - low) * place
        drawn = self.bounds.clip(Settings(10**log_alpha, 10**log_lam))
        return [{"alpha": float(a), "lambda": float(b)} for a, b in zip(drawn.alpha, drawn.lam, strict=True)]

    def log_prob(self, setting: Mapping[str, float]) -> float:
        """Natural log of the density at ``{"alpha", "lambda"}``, per decade of alpha and of lambda; -inf off the box.

        A side of the box without width counts as one decade. A setting with lambda > alpha has only the even share: its
        votes went to the equal setting (lambda, lambda).

        Raises
        ------
        ConfigError : a parameter is missing or not positive.
        """
        try:
            alpha, lam = float(setting["alpha"]), float(setting["lambda"])
        except (KeyError, TypeError, ValueError):
            alpha = lam = 0.0
        if not (0 < alpha < np.inf and 0 < lam < np.inf):
            raise ConfigError(f"no setting: {dict(setting)}", "log_prob", "give alpha and lambda above 0")
        place = np.log10([alpha, lam])
        low, high = self.bounds.logs.T
        if (place < low - 1e-9).any() or (place > high + 1e-9).any():
            return float("-inf")
        return float(np.log(self._mass[self._cells(place)] / self._cell_area))

    def surface(self, points: int = 48) -> PriorSurface:
        """Mean and sd of the outputs and of s, and P(feasible), on a ``points`` x ``points`` log grid over the box."""
        low, high = self.bounds.logs.T
        axes = [np.linspace(*ends, points) for ends in zip(low, high, strict=True)]
        grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
        known = Expert(self.response).foresee(Settings(10 ** grid[0], 10 ** grid[1]))
        quantiles = np.random.default_rng(0).permuted(np.tile(_NORMALS, (2, 1)), axis=1)
        drawn = known.mean[None] + quantiles.T[:, None, :, None] * known.amplitude
        clipped = np.clip(drawn, 0, 1)
        score = self.goal.score(drawn[:, :, 0], drawn[:, :, 1])
        feasible = self.goal.feasible(drawn[:, :, 0]).mean(axis=(0, 1))
        means, spreads = clipped.mean(axis=(0, 1)), clipped.std(axis=(0, 1))
        flat = {
            "retained": means[0],
            "retained_sd": spreads[0],
            "remembered": means[1],
            "remembered_sd": spreads[1],
            "score": score.mean(axis=(0, 1)),
            "score_sd": score.std(axis=(0, 1)),
            "feasible": feasible,
            "density": self._mass[self._cells(grid)] / self._cell_area,
        }
        shaped = {name: value.reshape(points, points) for name, value in flat.items()}
        return PriorSurface(alpha=10 ** axes[0], lam=10 ** axes[1], **shaped)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` reads them back exactly."""
        return {
            "format": _FORMAT,
            "retain_weight": self.retain_weight,
            "min_retained": self.min_retained,
            "bounds": {"alpha": list(self.bounds.alpha), "lambda": list(self.bounds.lam)},
            "response": self.response.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> HyperparameterPrior:
        """Inverse of ``to_json``. Raises ConfigError if ``raw`` is no prior, or one of another format."""
        if raw.get("format") != _FORMAT:
            raise ConfigError(f"prior of format {raw.get('format')}, not {_FORMAT}", "prior", "predict it again")
        try:
            bounds = Box(tuple(raw["bounds"]["alpha"]), tuple(raw["bounds"]["lambda"]))
            response = ResponseSurface.from_json(raw["response"])
            return cls(response, float(raw["retain_weight"]), float(raw["min_retained"]), bounds)
        except (KeyError, TypeError, ValueError) as reason:
            raise ConfigError(f"not a prior ({reason!r})", "prior", "predict it again") from reason

    @property
    def _widths(self) -> Array:
        """Decades of alpha and lambda; a side without width counts as one."""
        low, high = self.bounds.logs.T
        return np.where(high > low, high - low, 1.0)

    @property
    def _cell_area(self) -> float:
        return float(self._widths.prod() / _CELLS**2)

    def _cells(self, place: Array) -> tuple[NDArray[np.intp], ...]:
        """Indices of the cells that hold settings at log10 (alpha, lambda), the first axis of ``place``."""
        shape = (2, *[1] * (np.ndim(place) - 1))
        share = (place - self.bounds.logs[:, 0].reshape(shape)) / self._widths.reshape(shape)
        return tuple(np.clip(share * _CELLS, 0, _CELLS - 1).astype(np.intp))

    @cached_property
    def _mass(self) -> Array:
        """(_CELLS, _CELLS) probabilities of the cells of the box, alpha first."""
        votes = self._votes()
        counts = np.zeros((_CELLS, _CELLS))
        np.add.at(counts, self._cells(np.log10([votes.alpha, votes.lam])), 1.0)
        smooth = gaussian_filter(counts, _SMOOTHING, mode="nearest")
        return np.asarray((1 - _UNIFORM) * smooth / smooth.sum() + _UNIFORM / smooth.size)

    def _votes(self) -> Settings:
        """The best feasible setting of each draw."""
        rng = np.random.default_rng(0)
        grid = self.bounds.grid()
        draws = []
        for expert in experts_of(self.response, hedged=False):
            known = expert.foresee(grid)
            kernel = Kernel(self.response.length_scales, correlation=CORRELATION)
            count = _DRAWS // 2
            mean = known.mean[rng.integers(len(known.mean), size=count)]
            mean = mean + np.einsum("dq,qjn->djn", rng.standard_normal((count, len(known.basis))), known.basis)
            covariance = residual_covariance(known, known, kernel) + 1e-8 * np.eye(2 * len(grid))
            residual = rng.standard_normal((count, 2 * len(grid))) @ cholesky(covariance, lower=True).T
            draws.append(mean + residual.reshape(mean.shape))
        outputs = np.concatenate(draws)
        goal = self.goal
        score = np.where(goal.feasible(outputs[:, 0]), goal.score(outputs[:, 0], outputs[:, 1]), -1.0)
        mildest = int(np.argmax(np.minimum(grid.alpha, 1e300) * grid.lam))
        best = np.where(score.max(axis=1) > goal.untouched, score.argmax(axis=1), mildest)
        return grid.take(best)


_NORMALS = np.array([-1.5341, -0.8871, -0.4888, -0.1573, 0.1573, 0.4888, 0.8871, 1.5341])
"""Means of the eight equally likely slices of the standard normal, nearly: enough for a plot's mean and sd."""
