"""Every named sampler: in range, deterministic, resumed as if never stopped, and seeded by identity."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from ssdtune.errors import ConfigError
from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.samplers.recorded import recorded
from ssdtune.samplers.space import SearchSpace
from ssdtune.samplers.table import SAMPLERS, build_sampler, interrupted, seed_number, seed_of
from ssdtune.studyfile import SearchSection

SPACE = SearchSpace.of(SearchSection.model_validate({}))


class Plane:
    """A tenth of the parameters for every decade of alpha."""

    def selected_fraction(self, alpha):
        return 0.1 / alpha

    def alpha_at(self, rho):
        return 0.1 / rho


def make_prior():
    log_rho, log_kappa = np.linspace(-3, 0, 7), np.linspace(-2, 0, 5)
    damage = (log_rho[:, None] - 0.5 * log_kappa)[None]
    retained, remembered = 1 / (1 + np.exp(4 * damage)), 1 / (1 + np.exp(4 * damage + 4))
    sd, lengths = np.array([0.02, 0.05]), np.full((2, 2), 0.5)
    return HyperparameterPrior(ResponseSurface(log_rho, log_kappa, -1 - log_rho, retained, remembered, sd, lengths))


GIVEN = {"prior": make_prior(), "plane": Plane()}


def objective(trial):
    alpha, lam, _ = SPACE.suggest(trial)
    trial.set_constraint("c", alpha - 100)
    return -((alpha - 8) ** 2) - lam


def proposals(name, stops, study_name="one", seed=0):
    """Run a study in as many sessions as there are stops, each with a sampler of its own."""
    storage = optuna.storages.InMemoryStorage()
    for count in stops:
        study = optuna.create_study(
            storage=storage, study_name=study_name, sampler=build_sampler(name, seed, study_name, **GIVEN),
            load_if_exists=True,
            direction="maximize",
        )  # fmt: skip
        study.optimize(objective, n_trials=count)
    return [trial.params for trial in study.trials]


@pytest.mark.filterwarnings("ignore:QMCSampler is experimental", "ignore:Constraints have been set")
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_resumed_study_proposes_what_it_would_have_proposed(name):
    whole = proposals(name, [13])
    parts = proposals(name, [4, 1, 8])
    assert parts == whole
    assert len({tuple(params.values()) for params in whole}) == 13
    for params in whole:
        for parameter, distribution in SPACE.distributions.items():
            assert distribution.low <= params[parameter] <= distribution.high


@pytest.mark.parametrize("changed", [{"seed": 1}, {"study_name": "two"}])
def test_seed_and_name_of_the_study_count(changed):
    assert proposals("random", [3], **changed) != proposals("random", [3])


def test_seeds_are_the_same_on_every_machine():
    assert seed_of(0, "one", "trial 0") == 1792994116


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ConfigError, match="no sampler 'annealing'"):
        build_sampler("annealing", 0, "one")


@pytest.mark.parametrize("name", ["tpe-mode", "tpe-plane", "gp-plane"])
def test_a_sampler_that_lacks_what_it_needs_says_so(name):
    study = optuna.create_study(sampler=build_sampler(name, 0, "one"))
    with pytest.raises(ConfigError, match=f"sampler '{name}' needs"):
        study.ask()


def trial(number, state, **attributes):
    made = create_trial(state=state, value=0.0 if state == TrialState.COMPLETE else None, user_attrs=attributes)
    made.number = number
    return made


def test_the_place_of_an_interrupted_trial_is_taken_again():
    done = [trial(number, TrialState.COMPLETE, seed_number=number) for number in range(3)]
    stopped, failed = trial(3, TrialState.FAIL), trial(4, TrialState.FAIL, seed_number=4, error="out of memory")
    assert interrupted(stopped)
    assert not interrupted(failed)
    later = [trial(number, TrialState.RUNNING) for number in (5, 6)]
    others = [*done, stopped, failed, *later]
    assert seed_number(done[2], done) == 2
    assert [seed_number(new, others) for new in later] == [3, 5]


def test_places_are_read_however_a_study_has_recorded_them():
    old = trial(0, TrialState.COMPLETE, worker="lab-1", seed_number=1)
    new = trial(1, TrialState.RUNNING, origin={"worker": "lab-2", "seed_number": 0})
    unseeded = trial(2, TrialState.RUNNING, origin={"worker": "lab-2"})
    asking = trial(3, TrialState.RUNNING)
    assert seed_number(asking, [old, new, asking]) == 2
    assert seed_number(asking, [old, new, unseeded, asking]) == 3
    assert recorded(old) == {"worker": "lab-1", "seed_number": 1}
    assert recorded(new) == {"worker": "lab-2", "seed_number": 0}


def test_processes_that_ask_at_once_get_different_places():
    running = [trial(number, TrialState.RUNNING) for number in range(4)]
    assert [seed_number(one, running) for one in running] == [0, 1, 2, 3]
