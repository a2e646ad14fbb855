"""Fifteen trials on a made-up response; ``evaluate`` is where you dampen, run the model and compare."""

from __future__ import annotations

import math

import optuna
import optunahub


def evaluate(alpha: float, lam: float) -> tuple[float, float]:
    """(retained, remembered) of a dampening, both in [0, 1]."""
    harm = -math.log10(max(alpha, lam)) - 0.4 * math.log10(min(lam / alpha, 1))
    return 1 / (1 + math.exp(4 * harm - 4)), 1 / (1 + math.exp(6 * harm + 2))


def objective(trial: optuna.Trial) -> float:
    """The score of a trial, with what the sampler reads of it."""
    alpha = trial.suggest_float("alpha", 0.1, 300, log=True)
    lam = trial.suggest_float("lambda", 0.03, 300, log=True)
    retained, remembered = evaluate(alpha, lam)
    trial.set_user_attr("retained", retained)
    trial.set_user_attr("remembered", remembered)
    trial.set_constraint("min_retained", 0.95 - retained)
    return 0.2 * retained + 0.8 * (1 - remembered)


if __name__ == "__main__":
    module = optunahub.load_local_module("samplers/spectrum", registry_root="package")
    study = optuna.create_study(direction="maximize", sampler=module.SpectrumSampler(seed=0))
    study.optimize(objective, n_trials=15)
    print(study.best_trial.params, study.best_value)
