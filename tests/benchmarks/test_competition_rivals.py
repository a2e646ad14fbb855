"""Rivals show alpha and lambda, search where they say, and follow the published rules."""

import numpy as np
import optuna
import pytest

from benchmarks.competition.rivals import CUT, PUBLISHED, RIVALS, Given, percentile_setting, step_rule, step_settings

BOX = {"alpha": (0.1, 300.0), "lambda": (0.03, 300.0)}


class LogPlane:
    """rho = 1 / (1 + alpha): selected fractions known in closed form."""

    def selected_fraction(self, alpha):
        return 1 / (1 + alpha)

    def alpha_at(self, rho):
        return 1 / rho - 1


GIVEN = Given(LogPlane(), {"alpha": 7.0, "lambda": 3.0})


def run(name, trials=14, seed=0, objective=None):
    study = optuna.create_study(direction="maximize", sampler=RIVALS[name].make(seed, GIVEN))

    def value(trial):
        alpha, lam = (trial.suggest_float(key, *bounds, log=True) for key, bounds in BOX.items())
        trial.set_constraint("kept", 0.5 - alpha / (1 + alpha))
        return -((np.log(alpha) - 1) ** 2) - (np.log(lam) + 1) ** 2

    study.optimize(objective or value, n_trials=trials)
    return study


@pytest.mark.parametrize("name", RIVALS)
def test_studies_show_alpha_and_lambda_in_the_box(name):
    for trial in run(name).trials:
        assert set(trial.params) == {"alpha", "lambda"}
        assert all(low <= trial.params[key] <= high for key, (low, high) in BOX.items())


@pytest.mark.parametrize("name", RIVALS)
def test_the_same_seed_proposes_the_same(name):
    first, again = (run(name, 12, seed=3) for _ in range(2))
    for one, other in zip(first.trials, again.trials, strict=True):
        assert one.params == pytest.approx(other.params, rel=1e-3)  # a fit ends where its CPU's rounding leads it


@pytest.mark.parametrize("name", ["tpe-plane", "gp-plane"])
def test_plane_samplers_stay_in_the_design(name):
    for trial in run(name).trials:
        rho, kappa = 1 / (1 + trial.params["alpha"]), trial.params["lambda"] / trial.params["alpha"]
        assert 3e-4 - 1e-9 <= rho <= 0.7 + 1e-9
        assert kappa <= 1 + 1e-9


def test_plane_sampler_learns_from_its_trials():
    study = run("tpe-plane", 40)
    assert max(t.value for t in study.trials[20:]) > np.median([t.value for t in study.trials[:10]])


def test_plane_sampler_keeps_apart_from_running_trials():
    study = optuna.create_study(direction="maximize", sampler=RIVALS["gp-plane"].make(0, GIVEN))
    running = [study.ask() for _ in range(3)]
    pairs = {tuple(trial.suggest_float(key, *BOX[key], log=True) for key in ("lambda", "alpha")) for trial in running}
    assert len(pairs) == 3


def test_the_mode_comes_first_and_only_once():
    study = run("tpe-mode", 3)
    assert study.trials[0].params == GIVEN.mode
    assert study.trials[1].params != GIVEN.mode


def test_the_mode_comes_again_after_a_failed_first_trial():
    def fails_once(trial):
        trial.suggest_float("alpha", *BOX["alpha"], log=True)
        if trial.number == 0:
            raise ValueError
        return 0.0

    study = optuna.create_study(sampler=RIVALS["tpe-mode"].make(0, GIVEN))
    study.optimize(fails_once, n_trials=2, catch=ValueError)
    assert study.trials[1].params["alpha"] == GIVEN.mode["alpha"]


def test_percentile_rule_selects_the_published_share():
    setting = percentile_setting(LogPlane(), 0.1)
    assert LogPlane().selected_fraction(setting.alpha) == pytest.approx(np.log(11) / 100)
    assert setting.lam == 1


def test_step_rule_goes_from_mild_to_harsh_and_stops_at_the_cut():
    alphas = np.array([setting.alpha for setting in step_settings(LogPlane(), 0.1)])
    assert (np.diff(alphas) <= 0).all()
    setting, count = step_rule(LogPlane(), 0.1, lambda setting: min(setting.alpha / 500, 1.0))
    assert setting.alpha <= 500 * CUT < alphas[count - 2]


def test_published_default():
    assert (PUBLISHED.alpha, PUBLISHED.lam) == (10, 1)
