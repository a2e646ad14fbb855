"""A mapper whose surfaces are known in closed form."""

import numpy as np

from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.density import HyperparameterPrior


class ClosedForm:
    """A mapper whose surfaces are sigmoids; ``shift`` moves them, ``members`` makes them many."""

    def __init__(self, version, shift=0.0, members=6, trust=0.9):
        self.version, self.shift, self.members, self.trust = version, shift, members, trust
        self.asked = None

    def predict(self, fisher, *, retain_weight, min_retained, floor_ratio, bounds):
        self.asked = (retain_weight, min_retained, floor_ratio, bounds)
        log_rho, log_kappa = np.linspace(-2, -0.05, 12), np.linspace(-2, 0, 7)
        log_alpha = np.log10([fisher.alpha_at(10**rho) for rho in log_rho])
        log_alpha -= 1e-3 * np.arange(log_rho.size)  # a small model has ties
        shifts = self.shift + np.random.default_rng(0).normal(0, 0.2, (self.members, 1, 1))
        damage = log_rho[:, None] - 0.5 * log_kappa + shifts
        retained, remembered = 1 / (1 + np.exp(4 * (damage - 0.5))), 1 / (1 + np.exp(5 * (damage + 0.8)))
        sd, lengths = np.array([0.03, 0.06]), np.full((2, 2), 0.6)
        axes = log_rho, log_kappa, log_alpha
        surface = ResponseSurface(*axes, retained, remembered, sd, lengths, self.trust)
        return HyperparameterPrior(surface, retain_weight, min_retained, bounds)
