"""What mappers do with their inputs: standardise them, and draw the latent vectors of a task that was not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ssdtune.arrays import Array

DRAWS = 16
"""Latent vectors drawn for each network."""

_FAR = 3.0  # standardised global inputs are clipped here
_NEIGHBOURS = 3


@dataclass(frozen=True, eq=False)
class Standard:
    """Names of inputs with the mean and sd that they had in the experience."""

    names: list[str]
    mean: Array
    sd: Array

    @classmethod
    def of(cls, names: list[str], values: Array) -> Standard:
        """Of inputs (n, inputs)."""
        return cls(names, values.mean(axis=0), values.std(axis=0) + 1e-6)

    def __call__(self, values: Array) -> Array:
        return np.asarray((values - self.mean) / self.sd)


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Where the experience lies among the global inputs: ``known`` (tasks, U) standardised; ``usual``, the distance to
    the nearest tasks of other families that nine in ten tasks keep."""

    known: Array
    usual: float

    def strangeness(self, task: Array) -> float:
        """Distance of a task (U,) to its nearest neighbours in the experience over the usual one."""
        apart = np.sqrt(((self.known - task) ** 2).mean(axis=1))
        return float(np.sort(apart)[:_NEIGHBOURS].mean() / self.usual)


def clip_far(standardised: Array) -> Array:
    """Standardised inputs, none farther out than a network has seen."""
    return np.asarray(np.clip(standardised, -_FAR, _FAR))


def normal_draws(dimensions: int) -> Array:
    """(DRAWS, dimensions): evenly spread over the normal distribution, the same for every network."""
    from scipy.stats import qmc  # half a second

    spread = qmc.Sobol(dimensions, scramble=True, seed=0).random(DRAWS)
    return np.asarray(ndtri(np.clip(spread, 1e-3, 1 - 1e-3)))


def latent_distribution(latent: Array) -> tuple[Array, Array]:
    """(mean (B, D), root (B, D, D) of the covariance) of latent vectors (B, tasks, D)."""
    covariance = np.stack([np.cov(each.T) for each in latent]).astype(float) + 1e-6 * np.eye(latent.shape[-1])
    return latent.mean(axis=1), np.asarray(np.linalg.cholesky(covariance), float)


def latent_draws(mean: Array, root: Array) -> Array:
    """(B, DRAWS, D) from ``latent_distribution``."""
    found: Array = mean[:, None] + np.einsum("sd,bed->bse", normal_draws(mean.shape[1]), root)
    return found
