"""A task whose response is known in closed form, and ensembles of surfaces around it."""

import numpy as np
import pytest

from ssdtune.fisher.features import FEATURES
from ssdtune.prior.experience import Experience
from ssdtune.prior.fit import fit
from ssdtune.prior.surface import ResponseSurface
from ssdtune.prior.training import Recipe
from ssdtune.prior.view import GRID_KAPPA, GRID_RHO

QUICK = Recipe(networks=2, hidden=24, epochs=40, batch=128)

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


def toy_terms(log_rho, log_kappa, strength):
    """Damage terms of a task whose parameters all count alike, broadcast over (log_rho, log_kappa)."""
    rho, removed = 10**log_rho, 1 - 0.9 * 10**log_kappa
    change = np.sqrt(rho * removed**2)
    return {
        "selected_fraction": rho + 0 * removed,
        "relative_change": change,
        "mean_dampening": rho * removed,
        **{f"{side}_{form}": strength * change**2 for side in ("forget", "retain") for form in FORMS},
        "forget_first": 0.1 * strength * change,
        "retain_first": -0.1 * strength * change,
    }


FORMS = ("diagonal", "full", "low_rank")


@pytest.fixture(scope="session")
def make_experience():
    """``make_experience(key, family, seed)``: a task that stands as much damage as ``seed`` makes it stand."""

    def build(key="toy-0", family="blur/brain", seed=0):
        rng = np.random.default_rng([seed, 7])
        strength, stands = 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-0.4, 0.4)
        alpha = 30 * 10 ** (-0.6 * (np.log10(GRID_RHO) + 4))
        grid = toy_terms(np.log10(GRID_RHO)[:, None], np.log10(GRID_KAPPA), strength)
        log_rho, log_kappa = rng.uniform(-3.5, -0.1, 40), rng.uniform(-2, 0, 40)
        points = toy_terms(log_rho, log_kappa, strength)
        damage = points["relative_change"] / (0.3 * stands)
        features = {name: rng.uniform(0.1, 0.9) for name in FEATURES} | {
            "forget_loss": strength,
            "retain_loss": strength,
        }
        at = 30 * 10 ** (-0.6 * (log_rho + 4))
        return Experience(
            key=key,
            family=family,
            recipe={"kind": "toy"},
            q_retain="retain_ssim",
            q_forget="forget_ssim",
            baseline={"retain_ssim": 0.8, "forget_ssim": 0.9},
            oracle={"forget_ssim": 0.6},
            alpha=at,
            lam=at * 10**log_kappa,
            measures={
                "retain_ssim": 0.8 * np.exp(-(damage**2)),
                "forget_ssim": 0.5 + 0.4 * np.exp(-((2 * damage) ** 2)),
            },
            features=features,
            tables={
                "grid_alpha": alpha,
                **{
                    f"grid_{name}": np.broadcast_to(term, (GRID_RHO.size, GRID_KAPPA.size))
                    for name, term in grid.items()
                },
                **{f"design_{name}": term for name, term in points.items()},
            },
        )

    return build


@pytest.fixture(scope="session")
def experiences(make_experience):
    """Twelve tasks of four families."""
    families = ("blur/brain", "blur/knee", "bias/brain", "bias/knee")
    return [make_experience(f"toy-{number:02d}", families[number % 4], number) for number in range(12)]


@pytest.fixture(scope="session")
def mapper(experiences):
    """A small mapper of these tasks."""
    return fit(experiences, recipe=QUICK)
