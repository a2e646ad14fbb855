"""SpectrumSampler: Optuna's contract suites, determinism, several processes, foreign parameters and objectives."""

import json
import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
from optuna.trial import TrialState

from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.samplers.spectrum import SpectrumSampler

PAIR = ("alpha", "lambda")
SPACE = {"alpha": FloatDistribution(0.1, 300, log=True), "lambda": FloatDistribution(0.03, 300, log=True)}


def outputs(alpha, lam):
    log_alpha = np.log10(max(alpha, lam))
    damage = -log_alpha - 0.4 * (np.log10(lam) - log_alpha)
    return float(1 / (1 + np.exp(4 * (damage - 0.4)))), float(1 / (1 + np.exp(6 * (damage + 0.3))))


def make_prior(offset=0.0, **goal):
    """Surfaces of ``outputs`` in the coordinates log rho = -log alpha, moved by ``offset`` decades."""
    log_rho, log_kappa = np.linspace(-3, 1.5, 25), np.linspace(-3, 0, 13)
    shifts = offset + np.linspace(-0.15, 0.15, 5)
    damage = log_rho[:, None] - 0.4 * log_kappa + shifts[:, None, None]
    retained, remembered = 1 / (1 + np.exp(4 * (damage - 0.4))), 1 / (1 + np.exp(6 * (damage + 0.3)))
    sd, lengths = np.array([0.02, 0.03]), np.full((2, 2), 0.6)
    return HyperparameterPrior(ResponseSurface(log_rho, log_kappa, -log_rho, retained, remembered, sd, lengths), **goal)


PRIOR = make_prior()


def objective(trial, retain_weight=0.2, min_retained=0.95):
    setting = [trial.suggest_float(name, SPACE[name].low, SPACE[name].high, log=True) for name in PAIR]
    retained, remembered = outputs(*setting)
    trial.set_user_attr("retained", retained)
    trial.set_user_attr("remembered", remembered)
    trial.set_constraint("min_retained", min_retained - retained)
    return retain_weight * retained + (1 - retain_weight) * (1 - remembered)


def new_study(sampler, **kwargs):
    return optuna.create_study(direction="maximize", sampler=sampler, **kwargs)


def params(study):
    return [trial.params for trial in study.trials]


class TestContractWithPrior(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: SpectrumSampler(PRIOR, seed=0)


class TestContractWithoutPrior(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: SpectrumSampler(seed=0)


class _Renamed:
    """Optuna's suites call their parameters x and y; here they are alpha and lambda, so that the core is run."""

    @pytest.mark.parametrize(
        "x", [FloatDistribution(1e-7, 1.0, log=True), FloatDistribution(1, 11, step=0.5), FloatDistribution(2, 2)]
    )
    @pytest.mark.parametrize("y", [FloatDistribution(0.03, 300, log=True), FloatDistribution(0.5, 0.5 + 1e-15)])
    def test_relative_values_are_plain_and_contained(self, sampler, x, y):
        study = new_study(sampler)
        space = {"alpha": x, "lambda": y}
        for _ in range(4):
            trial = study.ask(space)
            for name, distribution in space.items():
                assert type(trial.params[name]) is float
                assert distribution._contains(trial.params[name])
            study.tell(trial, sum(trial.params.values()))


class TestCoreWithPrior(_Renamed):
    @pytest.fixture
    def sampler(self):
        return SpectrumSampler(PRIOR, seed=0)


class TestCoreWithoutPrior(_Renamed):
    @pytest.fixture
    def sampler(self):
        return SpectrumSampler(seed=0)


def test_the_first_trial_is_the_mode_and_the_search_closes_in():
    study = new_study(SpectrumSampler(PRIOR, seed=0, guard=False))
    study.optimize(objective, n_trials=8)
    assert study.trials[0].params == pytest.approx(PRIOR.mode)
    alone = new_study(SpectrumSampler(seed=0))
    alone.optimize(objective, n_trials=20)
    assert study.best_value > alone.best_value - 0.01
    assert study.best_trial.user_attrs["retained"] >= 0.95


def test_a_wrong_prior_is_left():
    study = new_study(SpectrumSampler(make_prior(offset=1.5), seed=0))
    study.optimize(objective, n_trials=15)
    right = new_study(SpectrumSampler(PRIOR, seed=0))
    right.optimize(objective, n_trials=15)
    assert study.best_value > right.best_value - 0.03


@pytest.mark.parametrize("prior", [PRIOR, None])
def test_a_resumed_study_continues_as_it_would_have(tmp_path, prior):
    whole = new_study(SpectrumSampler(prior, seed=3), study_name="s")
    whole.optimize(objective, n_trials=7)
    storage = f"sqlite:///{tmp_path}/s.db"
    for count in (2, 1, 4):
        stored = json.loads(json.dumps(prior.to_json())) if prior else None
        again = SpectrumSampler(HyperparameterPrior.from_json(stored) if stored else None, seed=3)
        new_study(again, study_name="s", storage=storage, load_if_exists=True).optimize(objective, n_trials=count)
    resumed = params(optuna.load_study(study_name="s", storage=storage))
    assert resumed == [pytest.approx(each, rel=1e-3) for each in params(whole)]  # rounding is the CPU's


def test_an_interrupted_trial_is_proposed_again_but_a_failing_one_not_for_ever():
    whole = new_study(SpectrumSampler(PRIOR, seed=0), study_name="s")
    whole.optimize(objective, n_trials=4)
    study = new_study(SpectrumSampler(PRIOR, seed=0), study_name="s")
    study.optimize(objective, n_trials=2)
    study.tell(study.ask(SPACE), state=TrialState.FAIL)
    study.optimize(objective, n_trials=2)
    assert [trial.params for trial in study.trials if trial.state != TrialState.FAIL] == params(whole)
    stuck = new_study(SpectrumSampler(PRIOR, seed=0))
    for _ in range(4):
        stuck.tell(stuck.ask(SPACE), state=TrialState.FAIL)
    tried = {tuple(trial.params.values()) for trial in stuck.trials}
    assert len(tried) >= 2


def test_seed_and_study_name_decide_and_call_order_does_not():
    def run(seed, name):
        study = new_study(SpectrumSampler(seed=seed), study_name=name)
        study.optimize(objective, n_trials=4)
        return params(study)

    first = run(0, "a")
    assert run(0, "a") == first
    assert run(1, "a") != first
    assert run(0, "b") != first


def test_processes_on_one_storage_propose_different_settings(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    studies = [
        new_study(SpectrumSampler(PRIOR, seed=0), study_name="s", storage=storage, load_if_exists=True)
        for _ in range(3)
    ]
    places = []
    for _ in range(3):
        trials = [study.ask(SPACE) for study in studies]  # all under way at once
        places += [[np.log10(trial.params[name]) for name in PAIR] for trial in trials]
        for study, trial in zip(studies, trials, strict=True):
            study.tell(trial, objective(trial))
    gaps = np.linalg.norm(np.array(places)[:, None] - np.array(places)[None], axis=-1)
    assert gaps[np.triu_indices(9, 1)].min() > 0.01


def test_a_process_that_starts_first_but_has_not_chosen_yet_is_foreseen():
    study = new_study(SpectrumSampler(PRIOR, seed=0))
    early, late = study.ask(), study.ask()
    chosen = [late.suggest_float(name, SPACE[name].low, SPACE[name].high, log=True) for name in PAIR]
    assert np.abs(np.log10(chosen) - np.log10([PRIOR.mode[name] for name in PAIR])).max() > 0.01
    assert early.suggest_float("alpha", 0.1, 300, log=True) == pytest.approx(PRIOR.mode["alpha"])


def test_parameters_it_does_not_know_are_left_to_the_fallback():
    def with_exponent(trial):
        exponent = trial.suggest_float("exponent", 0.5, 2)
        trial.suggest_categorical("kind", ["a", "b"])
        return objective(trial) - 0.1 * (exponent - 1) ** 2

    runs = []
    for _ in range(2):
        study = new_study(SpectrumSampler(PRIOR, seed=0), study_name="s")
        study.optimize(with_exponent, n_trials=5)
        runs.append(params(study))
    assert runs[0] == runs[1]
    assert len({each["exponent"] for each in runs[0]}) == 5
    fixed = new_study(SpectrumSampler(PRIOR, seed=0, independent_sampler=optuna.samplers.RandomSampler(seed=1)))
    fixed.optimize(with_exponent, n_trials=2)


def test_one_of_the_two_may_be_fixed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.PartialFixedSampler({"alpha": 5.0}, SpectrumSampler(PRIOR, seed=0))
    study = new_study(sampler)
    study.optimize(objective, n_trials=6)
    assert {trial.params["alpha"] for trial in study.trials} == {5.0}
    assert len({trial.params["lambda"] for trial in study.trials}) == 6


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_foreign_objective_is_left_to_optunas_sampler(direction):
    sign = 1 if direction == "minimize" else -1

    def foreign(trial):
        place = [np.log10(trial.suggest_float(name, 0.1, 100, log=True)) for name in PAIR]
        if trial.number == 3:
            return sign * float("inf")
        return sign * float(((np.array(place) - [0.5, 1.2]) ** 2).sum())

    def run(**options):
        study = optuna.create_study(direction=direction, sampler=SpectrumSampler(PRIOR, seed=0, **options))
        study.optimize(foreign, n_trials=30)
        return study

    study, given = run(), run(independent_sampler=optuna.samplers.TPESampler(seed=5, n_startup_trials=3))
    assert study.trials[0].params == pytest.approx({name: min(PRIOR.mode[name], 100) for name in PAIR})
    assert abs(study.best_value) < 0.2 and abs(given.best_value) < 0.2
    assert params(run()) == params(study) != params(given)


@pytest.mark.parametrize(("reported", "foreign"), [(0.3, True), (None, False), ("score", False)])
def test_where_all_trials_are_pruned_their_values_tell_what_is_sought(reported, foreign):
    study = new_study(SpectrumSampler(PRIOR, seed=0), study_name="s")
    for _ in range(2):
        trial = study.ask(SPACE)
        found = outputs(*trial.params.values())
        for name, value in zip(("retained", "remembered"), found, strict=True):
            trial.set_user_attr(name, value)
        if reported is not None:
            trial.report(float(PRIOR.goal.score(*found)) if reported == "score" else reported, 0)
        study.tell(trial, state=TrialState.PRUNED)
    assert (study.sampler._acquisition(study, study.trials, PRIOR) is None) == foreign
    assert set(study.ask(SPACE).params) == set(PAIR)


def test_estimates_of_pruned_trials_count_with_their_error_but_are_no_incumbent():
    study = new_study(SpectrumSampler(PRIOR, seed=0), study_name="s")
    study.optimize(objective, n_trials=1)
    trial = study.ask(SPACE)
    for name, value in zip(("retained", "remembered"), outputs(*trial.params.values()), strict=True):
        trial.set_user_attr(name, value)
        trial.set_user_attr(f"{name}_se", 0.05)
    trial.report(0.3, 0)
    study.tell(trial, state=TrialState.PRUNED)
    seen = study.sampler._acquisition(study, study.trials, PRIOR)
    assert len(seen.data.settings) == 2
    np.testing.assert_allclose(seen.data.noise[:, 1], 0.05)
    assert seen.incumbent == max(0.2, study.trials[0].value)
    study.optimize(objective, n_trials=2)


def test_the_goal_may_differ_from_the_priors():
    sampler = SpectrumSampler(PRIOR, seed=0, retain_weight=0.5, min_retained=0.0)
    study = new_study(sampler)
    study.optimize(lambda trial: objective(trial, retain_weight=0.5), n_trials=1)
    assert study.trials[0].params == pytest.approx(PRIOR.with_goal(0.5, 0.0).mode)
