"""How far the mapper is off on tasks that it has not seen, measured on held-out families.

Notation: members (M, n, 2) predictions of one held-out task, y (n, 2) its truth, both squashed; r = y - member.
A task's errors come in two parts: which member fits it (the latent, settled by the first few trials), and the residual
that no member explains, a process over the plane that the sampler's Gaussian processes take over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.special import logsumexp

from ssdtune.arrays import Array
from ssdtune.surrogate.gp import matern52

LEVELS: Array = np.array([-0.5, 0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0, 1.1])
"""Predicted levels at which the residual's sd is kept."""

_LENGTHS = (0.08, 0.15, 0.3, 0.6, 1.2, 2.5)
_LEAST_SD = np.array([0.004, 0.01])
_INDEPENDENT = 12  # settings of a design that count as independent, as its residuals are smooth
_ROUGHNESS = 0.05  # variance of what no length scale explains, over the residual's
_USUAL = 0.9
_LITTLE = 1e-3
_OUTLIER = 3.0


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One task predicted without its family: z (n, 2) = (log_damage, log10 kappa)."""

    members: Array
    y: Array
    z: Array


@dataclass(frozen=True, eq=False)
class Calibration:
    """residual_sd (2, levels) at ``LEVELS`` of the predicted output; length_scales (2, 2) in decades of z;
    log_likelihood : mean per held-out task and independent setting, of both outputs together."""

    residual_sd: Array
    length_scales: Array
    log_likelihood: float

    def sd_at(self, predicted: Array) -> Array:
        """(2, ...) for predicted outputs (2, ...)."""
        return sd_at(self.residual_sd, predicted)


def sd_at(residual_sd: Array, predicted: Array) -> Array:
    """(2, ...) for predicted outputs (2, ...), between what is kept at ``LEVELS``, (2, levels)."""
    return np.stack([np.interp(p, LEVELS, sd) for p, sd in zip(predicted, residual_sd, strict=True)])


def calibrate(tasks: Sequence[HeldOut], rounds: int = 3) -> Calibration:
    """Residual sd by level, and its length scales, from held-out tasks."""
    sd = residual_by_level(tasks, rounds)
    calibration = Calibration(sd, np.ones((2, 2)), 0.0)
    likelihood = float(np.mean([log_likelihood(task, calibration) for task in tasks]))
    weights = [_member_weights(task, calibration) for task in tasks]
    return Calibration(sd, _length_scales(tasks, weights, calibration), likelihood)


def residual_by_level(tasks: Sequence[HeldOut], rounds: int = 3) -> Array:
    """(2, levels) sd of the residual around the members that fit.

    The members are weighed by their likelihood under the present residual, then the residual is measured under those
    weights; a few rounds settle it.
    """
    sd = np.repeat(np.array([[0.05], [0.12]]), LEVELS.size, axis=1)
    for _ in range(rounds):
        calibration = Calibration(sd, np.ones((2, 2)), 0.0)
        sd = _residual_sd(tasks, [_member_weights(task, calibration) for task in tasks])
    return sd


def log_likelihood(task: HeldOut, calibration: Calibration) -> float:
    """Log density of the truth under the ensemble, per independent setting."""
    each = _member_log_likelihoods(task, calibration)
    return float(logsumexp(each) - np.log(len(each))) / _INDEPENDENT


def _member_log_likelihoods(task: HeldOut, calibration: Calibration) -> Array:
    sd = np.moveaxis(calibration.sd_at(np.moveaxis(task.members, -1, 0)), 0, -1)
    normal = -0.5 * ((task.y - task.members) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    return np.asarray(normal.sum(axis=2).mean(axis=1) * _INDEPENDENT)


def _member_weights(task: HeldOut, calibration: Calibration) -> Array:
    each = _member_log_likelihoods(task, calibration)
    return np.asarray(np.exp(each - logsumexp(each)))


def _residual_sd(tasks: Sequence[HeldOut], weights: Sequence[Array]) -> Array:
    """Root of the mean squared residual near each level, smooth over levels, every task counting alike; the worst tenth
    of the tasks is left out, as the sampler meets the exceptional with components of their own."""
    width = np.gradient(LEVELS)
    found = np.empty((2, LEVELS.size))
    for j in range(2):
        square, mass = np.zeros((2, len(tasks), LEVELS.size))
        for number, (task, weight) in enumerate(zip(tasks, weights, strict=True)):
            p, error = task.members[:, :, j], (task.y[None, :, j] - task.members[:, :, j]) ** 2
            near = np.exp(-0.5 * ((p[..., None] - LEVELS) / width) ** 2) * weight[:, None, None]
            square[number] = np.einsum("mnl,mn->l", near, error) / p.shape[1]
            mass[number] = near.sum(axis=(0, 1)) / p.shape[1]
        own = square.sum(axis=1) / mass.sum(axis=1)
        usual = own <= np.quantile(own, _USUAL)
        typical = square[usual].sum() / mass[usual].sum()
        little = _LITTLE * usual.sum()  # a level that is hardly ever predicted takes the typical residual
        found[j] = np.sqrt((square[usual].sum(axis=0) + little * typical) / (mass[usual].sum(axis=0) + little))
    result: Array = np.maximum(found, _LEAST_SD[:, None])
    return result


def _length_scales(tasks: Sequence[HeldOut], weights: Sequence[Array], calibration: Calibration) -> Array:
    """Length scales of largest likelihood of the standardised residual of the weighted mean, from a small table."""
    found = np.empty((2, 2))
    for j in range(2):
        residuals = []
        for task, weight in zip(tasks, weights, strict=True):
            mean = weight @ task.members[:, :, j]
            sd = np.interp(mean, LEVELS, calibration.residual_sd[j])
            residuals.append((task.z, (task.y[:, j] - mean) / sd))
        scores = {
            (a, b): sum(_evidence(z, residual, np.array([a, b])) for z, residual in residuals)
            for a in _LENGTHS
            for b in _LENGTHS
        }
        found[j] = max(scores, key=lambda pair: scores[pair])
    return found


def _evidence(z: Array, residual: Array, lengths: Array) -> float:
    """Log marginal likelihood of a unit residual process with its roughness, up to a constant; every other setting
    is enough, and outliers are drawn in as they would decide alone."""
    every = slice(None, None, 2)
    z, r = z[every], np.clip(residual[every], -_OUTLIER, _OUTLIER)
    factor = cholesky(matern52(z, z, lengths) + _ROUGHNESS * np.eye(len(z)), lower=True)
    return -0.5 * float(r @ cho_solve((factor, True), r)) - float(np.log(np.diag(factor)).sum())
