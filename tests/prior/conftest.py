"""A task whose response is known in closed form, and ensembles of surfaces around it."""

import numpy as np
import pytest

from ssdtune.prior.surface import ResponseSurface

LOG_RHO = np.linspace(-4, 0, 21)
LOG_KAPPA = np.linspace(-3, 0, 13)


def response(log_rho, log_kappa, shift=0.0):
    """Unclipped (retained, remembered): sigmoids of a damage that grows with rho and falls with kappa."""
    damage = log_rho - 0.5 * log_kappa + shift
    return 0.3 + 0.7 / (1 + np.exp(5 * (damage + 0.6))), -0.1 + 1.1 / (1 + np.exp(6 * (damage + 1.4)))


@pytest.fixture(scope="session")
def make_surface():
    """``make_surface(members=8, spread=0.1, offset=0.0, trust=1.0)``: members are the truth, moved by random shifts."""

    def build(members=8, spread=0.1, offset=0.0, trust=1.0, seed=0):
        shifts = offset + spread * np.random.default_rng(seed).standard_normal(members)
        pairs = [response(LOG_RHO[:, None], LOG_KAPPA[None], shift) for shift in shifts]
        retained, remembered = (np.stack(each) for each in zip(*pairs, strict=True))
        log_alpha = 2.0 - 0.9 * (LOG_RHO + 4)
        lengths = np.array([[0.5, 0.8], [0.5, 0.8]])
        axes, residual_sd = (LOG_RHO, LOG_KAPPA, log_alpha), np.array([0.02, 0.04])
        return ResponseSurface(*axes, retained, remembered, residual_sd, lengths, trust)

    return build
