"""What holds for every task before anything is known of it: an ensemble of plausible response surfaces.

The model behind each member gives its surfaces SSD's own shape: log10 of the ratio r is normal over the parameters,
with unknown centre and width; retain Fisher times squared parameter falls as r^-c, forget's as r^(1-c). Damage is then
an integral over the ratio (the damage surfaces, averaged), with x = min(lambda / r, 1):

    d_S(alpha, lambda) = E[weight_S (1 - x)^2 1(r > alpha)] / E[weight_S],
    retained = end_r + (1 - end_r) exp(-(d_R / t_r)^b_r),    remembered the same with d_F.

So nothing selected is (1, 1), both fall with alpha and with lambda, and where they fall is wide open.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ssdtune.plane.surface import ResponseSurface

_MEMBERS = 160
_SEED = 4
_LOG_ALPHA = np.linspace(3.0, -2.0, 41)
_LOG_KAPPA = np.linspace(-3.0, 0.0, 16)
_RESIDUAL_SD = np.array([0.06, 0.10])
_LENGTH_SCALES = np.array([[0.6, 0.8], [0.6, 0.8]])


@lru_cache(maxsize=1)
def generic_surface() -> ResponseSurface:
    """The ensemble over (log10 alpha, log10 kappa): its ``log_rho`` is -log10 alpha, as no analysis is at hand."""
    rng = np.random.default_rng(_SEED)
    log_ratio = np.linspace(-6, 6, 121)
    log_lam = _LOG_ALPHA[:, None] + _LOG_KAPPA
    removed = 1 - 10 ** np.minimum(log_lam[:, :, None] - log_ratio, 0)
    squared = np.where(log_ratio > _LOG_ALPHA[:, None, None], removed**2, 0)
    outputs = np.empty((2, _MEMBERS, _LOG_ALPHA.size, _LOG_KAPPA.size))
    for member in range(_MEMBERS):
        centre, width = rng.uniform(-1.2, 1.5), rng.uniform(0.15, 0.9)
        # r^(1-c) moves a log-normal's centre by (1 - c) width^2 ln 10 decades; one decade is plenty
        fall = rng.uniform(max(0.0, 1 - 1 / (np.log(10) * width**2)), 1)
        density = np.exp(-0.5 * ((log_ratio - centre) / width) ** 2)
        thresholds = 10 ** rng.uniform([-2.5, -3.0], [-0.2, -0.3])
        ends = rng.uniform([0.0, -0.5], [0.6, 0.1])
        for output, power in enumerate((-fall, 1 - fall)):
            weight = density * 10 ** (power * log_ratio)
            damage = squared @ weight / weight.sum()
            response = np.exp(-((damage / thresholds[output]) ** rng.uniform(0.6, 1.5)))
            outputs[output, member] = ends[output] + (1 - ends[output]) * response
    return ResponseSurface(-_LOG_ALPHA, _LOG_KAPPA, _LOG_ALPHA, outputs[0], outputs[1], _RESIDUAL_SD, _LENGTH_SCALES)
