"""KnobSampler: Optuna's contract suites, identity of proposals, foreign objectives and parameters."""

import numpy as np
import optuna
import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
from optuna.trial import TrialState

from ssdtune.knob import Knob
from ssdtune.prior.knobs import KnobPrior
from ssdtune.samplers.knobs import KnobSampler

KNOBS = (Knob("lr", 0.01, 10.0), Knob("steps", 4, 20, "linear", integer=True))


def outputs(setting):
    away = np.log10(setting["lr"] / 0.3), (setting["steps"] - 15) / 16
    size = float(np.hypot(*away))
    return 1 - 0.3 * max(size - 0.5, 0.0), min(size, 1.0)


def make_prior():
    places = np.random.default_rng(0).random((60, 2))
    blank = KnobPrior(KNOBS, places, np.zeros((1, 2, 60)), np.full((2, 60), 0.05))
    places = blank.taken_by(places)
    members = [[outputs(blank.setting(place) | {"steps": 15 + shift}) for place in places] for shift in (-8, 0, 4)]
    return KnobPrior(KNOBS, places, np.moveaxis(np.array(members), 1, 2), np.full((2, 60), 0.05))


PRIOR = make_prior()


def objective(trial):
    setting = {"lr": trial.suggest_float("lr", 0.01, 10.0, log=True), "steps": trial.suggest_int("steps", 4, 20)}
    retained, remembered = outputs(setting)
    trial.set_user_attr("measures", {"retained": retained, "remembered": remembered})
    trial.set_constraint("min_retained", 0.95 - retained)
    return 0.2 * retained + 0.8 * (1 - remembered)


def run(trials, seed=0, storage=None, **options):
    sampler = KnobSampler(PRIOR, seed=seed, **options)
    study = optuna.create_study(
        direction="maximize", study_name="s", storage=storage, load_if_exists=True, sampler=sampler
    )
    study.optimize(objective, n_trials=trials)
    return study


class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: KnobSampler(PRIOR, seed=0)


def test_the_first_trial_is_the_mode_and_the_best_is_soon_found():
    study = run(12, guard=False)
    assert study.trials[0].params == pytest.approx(PRIOR.mode)
    assert study.best_value > 0.97
    assert all(isinstance(trial.params["steps"], int) for trial in study.trials)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 12


def test_a_resumed_study_goes_on_as_it_would_have():
    storage = optuna.storages.InMemoryStorage()
    whole = [trial.params for trial in run(6).trials]
    run(3, storage=storage)
    assert [trial.params for trial in run(3, storage=storage).trials] == whole
    assert [trial.params for trial in run(6, seed=1).trials][1:] != whole[1:]


def test_running_trials_are_kept_apart():
    study = run(2)
    asked = []
    for _ in range(4):
        trial = study.ask()
        asked.append((trial.suggest_float("lr", 0.01, 10.0, log=True), trial.suggest_int("steps", 4, 20)))
    assert len(set(asked)) == 4


def test_another_objective_is_left_to_the_independent_sampler():
    study = optuna.create_study(direction="minimize", sampler=KnobSampler(PRIOR, seed=0))
    study.optimize(lambda t: t.suggest_float("lr", 0.01, 10.0, log=True) + t.suggest_int("steps", 4, 20), 12)
    assert len({trial.params["lr"] for trial in study.trials}) == 12


def test_another_range_is_searched_too():
    study = optuna.create_study(direction="maximize", sampler=KnobSampler(PRIOR, seed=0))
    study.optimize(lambda trial: trial.suggest_float("lr", 20.0, 30.0, log=True), 4)
    assert all(20 <= trial.params["lr"] <= 30 for trial in study.trials)


def test_an_interrupted_trial_is_repeated_and_one_that_failed_twice_is_not():
    study = run(3)
    asked = []
    for _ in range(3):
        trial = study.ask()
        asked.append((trial.suggest_float("lr", 0.01, 10.0, log=True), trial.suggest_int("steps", 4, 20)))
        study.tell(trial, state=TrialState.FAIL)
    assert asked[0] == asked[1] != asked[2]


def test_processes_that_ask_at_the_same_moment_are_kept_apart():
    """None of three trials has a setting yet when each process chooses its own."""
    sampler = KnobSampler(PRIOR, seed=0)
    study = optuna.create_study(direction="maximize", study_name="s", sampler=sampler)
    for _ in range(3):
        study.ask()
    trials = study.get_trials()
    asked = [sampler.sample_relative(study, t, sampler.infer_relative_search_space(study, t)) for t in trials]
    assert asked[0] == pytest.approx(PRIOR.mode)
    assert len({tuple(setting.values()) for setting in asked}) == 3
