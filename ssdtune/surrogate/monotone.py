"""What is known for certain, nearly, of a setting from others: a harsher dampening does not undo damage.

Notation: (alpha, lambda) in canonical form, lambda <= alpha; SSD multiplies parameter p by min(lambda / r_p, 1) where
r_p > alpha. With alpha' <= alpha and lambda' <= lambda no factor is larger: (alpha', lambda') is *harsher*. Quality on
either set falls with it, so a setting's outputs lie between those of milder and of harsher trials. In the bundled
collection 1.8 % of the settings harsher than one with retained < 0.95 had 0.95 or more again; `surprise` is the share
to expect, and rises where a task's own trials are out of order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssdtune.arrays import Array
from ssdtune.plane.settings import Settings

_SLACK = np.array([0.002, 0.01])  # of retained and remembered
_FAR = 9.0  # beyond any output
_CLOSEST = 0.005  # half the least distance of two bounds
_ODDS = (1.0, 50.0)  # pseudo-counts of pairs out of order, and of all pairs
_SAME = 1e-9  # decades


@dataclass(frozen=True, eq=False)
class MonotoneBounds:
    """Trials at ``settings`` with outputs y (2, n), of retained and remembered, and their errors, noise (2, n).

    surprise : the probability that what they say of other settings does not hold.
    """

    settings: Settings
    y: Array
    noise: Array

    @cached_property
    def surprise(self) -> float:
        """Share of pairs of trials out of order, with pseudo-counts."""
        place, y, slack = self._place, self.y, self._slack
        harsher = (place[:, :, None] <= place[:, None] + _SAME).all(axis=0) & ~np.eye(place.shape[1], dtype=bool)
        risen = (y[:, :, None] - y[:, None] > slack[:, :, None] + slack[:, None]).any(axis=0)
        return float((_ODDS[0] + (harsher & risen).sum()) / (_ODDS[1] + harsher.sum()))

    def bounds(self, settings: Settings) -> tuple[Array, Array]:
        """(low, high), each (2, c), of the outputs at c ``settings``."""
        own, theirs, slack = _coordinates(settings), self._place, self._slack
        harsher = (own[:, :, None] <= theirs[:, None] + _SAME).all(axis=0)  # the setting than the trial
        milder = (own[:, :, None] >= theirs[:, None] - _SAME).all(axis=0)
        high = np.where(harsher, (self.y + slack)[:, None], _FAR).min(axis=2, initial=_FAR)
        low = np.where(milder, (self.y - slack)[:, None], -_FAR).max(axis=2, initial=-_FAR)
        crossed = np.maximum(low - high + 2 * _CLOSEST, 0) / 2  # trials out of order, or close together
        return low - crossed, high + crossed

    @cached_property
    def _place(self) -> Array:
        return _coordinates(self.settings)

    @cached_property
    def _slack(self) -> Array:
        return _SLACK[:, None] + 2 * self.noise


def _coordinates(settings: Settings) -> Array:
    """(2, n): log10 of the canonical alpha and of lambda."""
    log_alpha, log_kappa = settings.logs()
    return np.stack([log_alpha, log_alpha + log_kappa])
