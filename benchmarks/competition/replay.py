"""A recorded task as something to search: its response at any (alpha, lambda), interpolated from the design.

Notation: rho selected fraction, kappa = lambda / alpha depth; y = (retained, remembered) unclipped; D the damage that
the Fisher diagonal foresees, of the retain set for retained and of the forget set for remembered. Along each line of
the design, of one kappa, y is a shape-preserving cubic (PCHIP) in sqrt(D), which is known at every rho: where a heavy
parameter crosses the threshold both jump. It is exact at the nodes, and 1 where D = 0. Across lines, at the same rho,
y is PCHIP in log kappa. Below the smallest rho of the design y = 1 + (y(rho_0) - 1) rho / rho_0, so that nothing
selected is the untouched model; beyond its other edges the nearest node holds. alpha -> rho: linear in logs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from ssdtune.learning.design import CHECKS
from ssdtune.plane.bilinear import cell
from ssdtune.plane.settings import GRID_RHO, LINE_KAPPA, LINE_RHO, Box, canonical
from ssdtune.prior.experience import Experience
from ssdtune.surrogate.improvement import Goal

Array = NDArray[np.float64]

_FINE = (281, 161)
_REFINE = 8  # places between lines that the cubic is tabulated at; bilinear within


@dataclass(frozen=True, eq=False)
class Replay:
    """One recorded task; ``floor`` is the oracle's forget quality."""

    experience: Experience

    @property
    def key(self) -> str:
        return self.experience.key

    @property
    def family(self) -> str:
        return self.experience.family

    @property
    def kind(self) -> str:
        """The corruption, or the kind of forgetting: the first half of the family."""
        return self.experience.family.split("/")[0]

    @property
    def phi(self) -> float:
        """Share of the given forget samples among all training samples."""
        return float(self.experience.features["phi"])

    @property
    def fingerprint(self) -> str:
        """Of all that the replay depends on."""
        e = self.experience
        parts = [self.measured, e.alpha, e.lam, e.tables["grid_alpha"], self._damage]
        return hashlib.blake2b(b"".join(part.tobytes() for part in parts), digest_size=8).hexdigest()

    @cached_property
    def measured(self) -> Array:
        """(2, n): unclipped (retained, remembered) at every setting of the design, the checks last."""
        e = self.experience
        before = e.baseline[e.q_forget]
        remembered = (np.nan_to_num(e.measures[e.q_forget]) - e.floor) / (before - e.floor)
        return np.stack([e.retain_ratio, remembered])

    @cached_property
    def _map(self) -> tuple[Array, Array]:
        """(log alpha falling, log rho rising) of every recorded pair, repeated thresholds dropped."""
        log_rho = np.log(np.concatenate([GRID_RHO, LINE_RHO]))
        tables = self.experience.tables
        log_alpha = np.log(np.concatenate([tables["grid_alpha"], tables["line_alpha"]]))
        order = np.argsort(log_rho, kind="stable")
        log_rho, log_alpha = log_rho[order], np.minimum.accumulate(log_alpha[order])
        keep = np.append(True, np.diff(log_alpha) < -1e-6)
        return log_alpha[keep], log_rho[keep]

    @property
    def _damage(self) -> Array:
        """(2, places, lines): D along the lines."""
        tables = self.experience.tables
        return np.stack([tables["line_retain_diagonal"], tables["line_forget_diagonal"]])

    def log_rho(self, log_alpha: ArrayLike) -> Array:
        """ln rho at ln alpha; beyond the recorded pairs the last slope runs on, up to rho = 1."""
        falling, rising = self._map
        x = np.asarray(log_alpha, float)
        inside = np.interp(x, falling[::-1], rising[::-1])
        first, last = ((rising[i + 1] - rising[i]) / (falling[i + 1] - falling[i]) for i in (0, falling.size - 2))
        above = np.maximum(x - falling[0], 0) * first
        below = np.minimum(x - falling[-1], 0) * last
        found: Array = np.minimum(inside + above + below, 0.0)
        return found

    def selected_fraction(self, alpha: float) -> float:
        return float(np.exp(self.log_rho(np.log(alpha))))

    def alpha_at(self, rho: float) -> float:
        falling, rising = self._map
        return float(np.exp(np.interp(np.log(rho), rising, falling)))

    @cached_property
    def _table(self) -> tuple[Array, Array, Array]:
        """ln rho (r,), ln kappa (k,), y (2, r, k): the response tabulated finely."""
        e = self.experience
        nodes = slice(None, -CHECKS)
        line_of = _nearest(np.log(LINE_KAPPA), np.log(e.lam[nodes] / e.alpha[nodes]))
        place_of = _nearest(np.log(LINE_RHO), np.log(e.tables["design_rho"][nodes]))
        along = np.empty((2, LINE_RHO.size, LINE_KAPPA.size))
        for line in range(LINE_KAPPA.size):
            own = line_of == line
            for output, damage in enumerate(self._damage[..., line]):
                along[output, :, line] = _along(np.sqrt(damage), place_of[own], self.measured[output, nodes][own])
        kappa = _finer(np.log(LINE_KAPPA))
        return np.log(LINE_RHO), kappa, PchipInterpolator(np.log(LINE_KAPPA), along, axis=2)(kappa)

    def outputs(self, alpha: ArrayLike, lam: ArrayLike) -> Array:
        """(2, n): unclipped (retained, remembered) at settings."""
        log10_alpha, log10_kappa = (np.atleast_1d(each) for each in canonical(alpha, lam))
        return self.at(self.log_rho(log10_alpha * np.log(10)), log10_kappa * np.log(10))

    def at(self, log_rho: ArrayLike, log_kappa: ArrayLike) -> Array:
        """(2, n): the same at (ln rho, ln kappa)."""
        rho, kappa = np.atleast_1d(np.asarray(log_rho, float)), np.atleast_1d(np.asarray(log_kappa, float))
        nodes_rho, nodes_kappa, table = self._table
        (i, s), (j, t) = cell(nodes_rho, rho), cell(nodes_kappa, kappa)
        inside = (
            table[:, i, j] * (1 - s) * (1 - t)
            + table[:, i + 1, j] * s * (1 - t)
            + table[:, i, j + 1] * (1 - s) * t
            + table[:, i + 1, j + 1] * s * t
        )
        found: Array = 1 + (inside - 1) * np.exp(np.minimum(rho - nodes_rho[0], 0))
        return found

    def scores(self, alpha: ArrayLike, lam: ArrayLike, goal: Goal) -> tuple[Array, NDArray[np.bool_]]:
        """(s, feasible) at settings."""
        retained, remembered = self.outputs(alpha, lam)
        return goal.score(retained, remembered), goal.feasible(retained)

    def best(self, goal: Goal, box: Box) -> float:
        """The best known s: over a fine grid of the box and the measured nodes in it, or the untouched model's."""
        axes = [np.geomspace(low, high, count) for (low, high), count in zip((box.alpha, box.lam), _FINE, strict=True)]
        alpha, lam = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        e = self.experience
        own = (e.alpha[:-CHECKS], e.lam[:-CHECKS])
        inside = (own[0] >= box.alpha[0]) & (own[0] <= box.alpha[1]) & (own[1] >= box.lam[0]) & (own[1] <= box.lam[1])
        alpha, lam = np.append(alpha, own[0][inside]), np.append(lam, own[1][inside])
        s, feasible = self.scores(alpha, lam, goal)
        return float(max(goal.untouched, s[feasible].max(initial=goal.untouched)))

    def check_errors(self, goal: Goal) -> Array:
        """|s interpolated - s measured| at the settings between the nodes that were measured to check."""
        e = self.experience
        checks = slice(-CHECKS, None)
        predicted = goal.score(*self.outputs(e.alpha[checks], e.lam[checks]))
        return np.abs(predicted - goal.score(*self.measured[:, checks]))


def _along(x: Array, places: NDArray[np.intp], y: Array) -> Array:
    """y at every place of a line: through 1 at x = 0 and through the nodes, PCHIP in x, which does not fall."""
    x = np.maximum.accumulate(x) / max(float(x[-1]), 1e-300)
    nodes = np.append(0.0, x[places])
    rising = nodes + 1e-9 * np.arange(nodes.size)  # level where nothing more is selected
    return np.asarray(PchipInterpolator(rising, np.append(1.0, y))(np.interp(x, nodes, rising)))


def _nearest(nodes: Array, x: Array) -> NDArray[np.intp]:
    return np.asarray(np.abs(x[:, None] - nodes).argmin(axis=1))


def _finer(nodes: Array) -> Array:
    place = np.arange(_REFINE * (nodes.size - 1) + 1) / _REFINE
    return np.interp(place, np.arange(nodes.size), nodes)
