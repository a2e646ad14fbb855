"""Every named sampler: in range, deterministic, resumed as if never stopped, and seeded by identity."""

from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from ssdtune.errors import ConfigError
from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.density import HyperparameterPrior
from ssdtune.samplers.table import SAMPLERS, SamplerFactory, choose_sampler, seed_of
from ssdtune.study.ask import Seeds, ask
from ssdtune.study.own import OwnView
from ssdtune.study.record import interrupted, read_trial
from ssdtune.studyfile import SAMPLER_NAMES
from ssdtune.surrogate.improvement import Goal
from ssdtune.unlearning.ssd import SSD, SSDOptions

KNOBS = SSD().knobs(SSDOptions())


def make_prior():
    log_rho, log_kappa = np.linspace(-3, 0, 7), np.linspace(-2, 0, 5)
    damage = (log_rho[:, None] - 0.5 * log_kappa)[None]
    retained, remembered = 1 / (1 + np.exp(4 * damage)), 1 / (1 + np.exp(4 * damage + 4))
    sd, lengths = np.array([0.02, 0.05]), np.full((2, 2), 0.5)
    return HyperparameterPrior(ResponseSurface(log_rho, log_kappa, -1 - log_rho, retained, remembered, sd, lengths))


def factory(name, seed=0, study_name="one"):
    return SamplerFactory(choose_sampler(name), seed, study_name, Goal(), make_prior)


def proposals(name, stops, study_name="one", seed=0):
    """Run a study in as many sessions as there are stops, each with samplers of its own."""
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name=study_name, direction="maximize")
    record = SimpleNamespace(chosen=SimpleNamespace(method=None), knobs=KNOBS)
    for count in stops:
        study = OwnView(optuna.load_study(storage=storage, study_name=study_name))
        for _ in range(count):
            asked = ask(study, record, factory(name, seed, study_name), 99)
            alpha, lam = asked.setting["alpha"], asked.setting["lambda"]
            asked.trial.set_constraint("c", alpha - 100)
            study.study.tell(asked.trial, -((alpha - 8) ** 2) - lam)
    return [trial.params for trial in study.look()]


@pytest.mark.filterwarnings("ignore:QMCSampler is experimental", "ignore:Constraints have been set")
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_resumed_study_proposes_what_it_would_have_proposed(name):
    whole = proposals(name, [13])
    parts = proposals(name, [4, 1, 8])
    assert parts == [pytest.approx(params, rel=1e-3) for params in whole]  # fits end where a CPU's rounding leads
    assert len({tuple(params.values()) for params in whole}) == 13
    for params in whole:
        assert all(knob.low <= params[knob.name] <= knob.high for knob in KNOBS)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"study_name": "two"}])
def test_seed_and_name_of_the_study_count(changed):
    assert proposals("random", [3], **changed) != proposals("random", [3])


def test_seeds_are_the_same_on_every_machine():
    assert seed_of(0, "one", "trial 0") == 1792994116


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ConfigError, match="no sampler 'annealing'"):
        choose_sampler("annealing")


def trial(number, state, **attributes):
    made = create_trial(state=state, value=0.0 if state == TrialState.COMPLETE else None, user_attrs=attributes)
    made.number = number
    return made


def free_number(number, others):
    return Seeds().of(others, before=number).lowest_free()


def test_the_place_of_an_interrupted_trial_is_taken_again():
    done = [trial(number, TrialState.COMPLETE, seed_number=number) for number in range(3)]
    stopped, failed = trial(3, TrialState.FAIL), trial(4, TrialState.FAIL, seed_number=4, error="out of memory")
    assert interrupted(stopped)
    assert not interrupted(failed)
    later = [trial(number, TrialState.RUNNING) for number in (5, 6)]
    others = [*done, stopped, failed, *later]
    assert free_number(2, done[:2]) == 2
    assert [free_number(new.number, others) for new in later] == [3, 5]


def test_places_are_read_however_a_study_has_recorded_them():
    old = trial(0, TrialState.COMPLETE, worker="lab-1", seed_number=1)
    new = trial(1, TrialState.RUNNING, origin={"worker": "lab-2", "seed_number": 0})
    unseeded = trial(2, TrialState.RUNNING, origin={"worker": "lab-2"})
    asking = trial(3, TrialState.RUNNING)
    assert free_number(3, [old, new, asking]) == 2
    assert free_number(3, [old, new, unseeded, asking]) == 3
    assert read_trial(old) == {"worker": "lab-1", "seed_number": 1}
    assert read_trial(new) == {"worker": "lab-2", "seed_number": 0}


def test_processes_that_ask_at_once_get_different_places():
    running = [trial(number, TrialState.RUNNING) for number in range(4)]
    assert [free_number(one.number, running) for one in running] == [0, 1, 2, 3]


def test_a_study_looked_at_again_and_again_is_what_it_is_at_once():
    rng = np.random.default_rng(0)
    trials = [trial(number, TrialState.RUNNING, origin={"seed_number": number}) for number in range(40)]
    seeds = Seeds()
    for _ in range(60):
        place = int(rng.integers(40))
        if trials[place].state == TrialState.RUNNING:  # ended: finished, failed, or interrupted and done again
            state, error = [(TrialState.COMPLETE, {}), (TrialState.FAIL, {"error": "e"}), (TrialState.FAIL, {})][
                place % 3
            ]
            trials[place] = trial(place, state, origin={"seed_number": place}, **error)
        before = int(rng.integers(30, 40))
        for given, below in ((trials, None), ([*trials[:before], *trials[before + 1 :]], before)):
            known, anew = seeds.of(given, below), Seeds().of(given, below)
            assert [known.free(k) for k in range(9)] == [anew.free(k) for k in range(9)]
            assert [known.users(k) for k in range(40)] == [anew.users(k) for k in range(40)]
            assert (known.taken, known.pending) == (anew.taken, anew.pending)


def test_two_that_chose_one_place_do_not_both_keep_it(monkeypatch):
    study = optuna.create_study(direction="maximize")
    record = SimpleNamespace(chosen=SimpleNamespace(method=None), knobs=KNOBS)
    others = [study.ask() for _ in range(2)]
    for number, other in enumerate(others):
        other.set_user_attr("origin", {"worker": "elsewhere-1", "seed_number": number})
    monkeypatch.setattr("ssdtune.study.ask.Used.lowest_free", lambda used: 1)  # as it was when others were unsigned
    asked = ask(OwnView(study), record, factory("random"), 99)
    places = [read_trial(trial)["seed_number"] for trial in study.trials]
    assert places[:2] == [0, 1]
    assert places[2] not in (0, 1)
    assert [other.number for other in asked.others] == [0, 1]


def test_every_name_that_a_study_file_may_give_is_a_sampler():
    assert sorted(SAMPLERS) == sorted(SAMPLER_NAMES)
