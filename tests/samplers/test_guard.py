"""Turns of the search without prior: it goes the way it would go alone, so that no prior costs more than a bound."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from ssdtune.prior.knobs import KnobPrior
from ssdtune.samplers.guard import GRACE, RATIO, is_unled, unled
from ssdtune.samplers.knobs import KnobSampler
from ssdtune.samplers.spectrum import SpectrumSampler
from tests.samplers import test_knobs, test_spectrum

TURNS = [2, 4, 5, 7, 8, 10, 11]
BLANK = KnobPrior.blank(test_knobs.KNOBS, [{"lr": 1.0, "steps": 8}], test_knobs.PRIOR.goal)
FORESEEN = KnobPrior(test_knobs.KNOBS, BLANK.places, np.zeros((1, 2, len(BLANK.places))) + 0.5, BLANK.residual_sd + 0.1)
"""The places of ``BLANK``, at which the same is foreseen everywhere."""

SAMPLERS = {
    "spectrum": (
        lambda led, **options: SpectrumSampler(test_spectrum.PRIOR if led else None, seed=1, **options),
        test_spectrum.objective,
    ),
    "knobs": (lambda led, **options: KnobSampler(FORESEEN if led else BLANK, seed=1, **options), test_knobs.objective),
}


@pytest.fixture(params=SAMPLERS)
def searched(request):
    """(make a sampler, with a prior or without; an objective)."""
    return SAMPLERS[request.param]


def new_study(sampler, **options):
    return optuna.create_study(direction="maximize", study_name="s", sampler=sampler, **options)


def places(trials):
    return [pytest.approx([np.log10(value) for value in trial.params.values()], abs=1e-3) for trial in trials]


def settings(trials):
    return [[np.log10(value) for value in trial.params.values()] for trial in trials]


def in_time(guarded, alone, given=0):
    """Whether each of the trials of the search without prior is among those that the bound allows for it."""
    made = settings(guarded.trials)
    for number, setting in enumerate(places(alone.trials[given:]), 1):
        by = int(RATIO * number + GRACE) + given
        if by <= len(made) and setting not in made[:by]:
            return False
    return True


@pytest.mark.parametrize("trials", [1, 2, 3, 4, 7, 40])
def test_turns_keep_the_bound(trials):
    turns = [place for place in range(100) if is_unled(place)]
    assert turns[:7] == TURNS
    assert turns[trials - 1] + 1 <= RATIO * trials + GRACE < turns[trials - 1] + 2  # as late as the bound allows


def test_at_its_turns_the_search_without_prior_goes_its_own_way(searched):
    make, objective = searched
    guarded, alone, led = new_study(make(True)), new_study(make(False)), new_study(make(True, guard=False))
    guarded.optimize(objective, n_trials=12)
    alone.optimize(objective, n_trials=7)
    led.optimize(objective, n_trials=4)
    assert settings(guarded.trials[turn] for turn in TURNS) == places(alone.trials)
    assert in_time(guarded, alone) and not in_time(led, alone)
    assert settings(guarded.trials[:2]) == places(led.trials[:2])
    assert settings(led.trials[2:]) != places(alone.trials[:2])


def test_what_the_search_without_prior_finds_is_found_in_time(searched):
    make, objective = searched
    guarded, alone = new_study(make(True)), new_study(make(False))
    guarded.optimize(objective, n_trials=14)
    alone.optimize(objective, n_trials=8)
    best = [np.maximum.accumulate([trial.value for trial in study.trials]) for study in (guarded, alone)]
    for trials in range(1, 9):
        assert best[0][int(RATIO * trials + GRACE) - 1] >= best[1][trials - 1] - 1e-3


def test_the_led_search_sees_all_trials(searched):
    """Its fourth trial differs where a turn before it came to something else."""
    make, objective = searched

    def other(trial):
        score = objective(trial)
        if trial.number != 2:
            return score
        for name, value in (("retained", 0.99), ("remembered", 0.01)):
            trial.set_user_attr(name, value)
        return 0.2 * 0.99 + 0.8 * 0.99

    runs = []
    for told in (objective, other):
        study = new_study(make(True))
        study.optimize(told, n_trials=4)
        runs.append(settings(study.trials))
    assert runs[0][:3] == runs[1][:3]
    assert runs[0][3] != pytest.approx(runs[1][3], abs=1e-3)


def test_a_failed_trial_gives_its_turn_back_and_a_resumed_study_keeps_the_turns(searched):
    make, objective = searched
    whole = new_study(make(True))
    whole.optimize(objective, n_trials=6)
    storage = optuna.storages.InMemoryStorage()
    for number in range(6):
        study = new_study(make(True), storage=storage, load_if_exists=True)
        if number in (1, 2, 3):  # stopped during the trial before
            lost = study.ask(study.trials[0].distributions)
            study.tell(lost, state=TrialState.FAIL)
        study.optimize(objective, n_trials=1)
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert settings(done) == places(whole.trials)


def test_a_trial_that_fails_late_changes_no_roles_of_those_that_had_started():
    study = new_study(optuna.samplers.RandomSampler(seed=1))
    late, *rest = [study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}) for _ in range(6)]
    for trial in rest:
        study.tell(trial, 0.0)
    study.tell(late, state=TrialState.FAIL)
    trials = study.trials
    assert [each.number for each in unled(trials[:5], trials[5])] == [2, 4]
    after = study.ask()  # its place is that of the sixth, and so is its role
    trials = study.trials
    assert [each.number for each in unled(trials[: after.number], trials[after.number])] == [2, 4, 5]


def test_settings_that_were_enqueued_are_seen_by_both_and_are_no_turn_of_either(searched):
    make, objective = searched
    alone, guarded = new_study(make(False)), new_study(make(True))
    alone.optimize(objective, n_trials=1)
    given = {name: value * 1.5 if isinstance(value, float) else value for name, value in alone.trials[0].params.items()}
    alone = new_study(make(False))
    for study, trials in ((alone, 4), (guarded, 6)):
        study.enqueue_trial(given)
        study.optimize(objective, n_trials=trials)
    assert in_time(guarded, alone, given=1)
    assert guarded.trials[0].params == alone.trials[0].params


def test_what_the_led_search_has_tried_costs_the_other_no_turn():
    """The prior says that the first place of the search without prior is best."""
    alone = new_study(KnobSampler(BLANK, seed=1))
    alone.optimize(test_knobs.objective, n_trials=8)
    guarded = new_study(KnobSampler(best_where(alone.trials[0].params), seed=1))
    guarded.optimize(test_knobs.objective, n_trials=14)
    made, expected = settings(guarded.trials), places(alone.trials)
    assert made[0] == expected[0]
    assert len({tuple(setting) for setting in made}) == 14  # none is made again
    assert in_time(guarded, alone)


def test_what_the_led_search_is_trying_costs_the_other_no_turn_either():
    alone = new_study(KnobSampler(BLANK, seed=1))
    alone.optimize(test_knobs.objective, n_trials=1)
    guarded = new_study(KnobSampler(best_where(alone.trials[0].params), seed=1))
    asked = [guarded.ask(alone.trials[0].distributions) for _ in range(3)]
    assert settings(asked[:1]) == places(alone.trials)
    assert len({tuple(setting) for setting in settings(asked)}) == 3


def prior_that_says(remembered):
    """Of what is remembered at each of the places of ``BLANK``; all is retained."""
    members = np.stack([np.full_like(remembered, 0.99), remembered])[None]
    return KnobPrior(test_knobs.KNOBS, BLANK.places, members, BLANK.residual_sd + 1e-3)


def distances(place):
    return np.abs(BLANK.places - place).max(axis=1)


def best_where(setting):
    """A prior that says so, and that all else is bad."""
    return prior_that_says(np.where(distances(BLANK.place(setting)) < 1e-6, 0.0, 0.6))


def far_prior():
    """Best at a place far from the first of the search without prior."""
    return prior_that_says(distances(BLANK.places[100]))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_search_whose_settings_fail_does_not_keep_its_turns(name):
    """All fails but the first setting of the search without prior, as where networks' outputs are not finite."""
    make, objective = SAMPLERS[name]
    alone, study = (
        new_study(make(False)),
        new_study(make(True) if name == "spectrum" else KnobSampler(far_prior(), seed=1)),
    )
    alone.optimize(objective, n_trials=1)

    def failing(trial):
        score = objective(trial)
        return score if settings([trial]) == places(alone.trials) else float("nan")

    study.optimize(failing, n_trials=12)
    assert [trial.state for trial in study.trials[:2]] == [TrialState.FAIL] * 2
    assert any(trial.state == TrialState.COMPLETE for trial in study.trials)


def test_what_an_enqueued_setting_lacks_is_chosen_without_prior(searched):
    make, objective = searched
    guarded, alone = new_study(make(True)), new_study(make(False))
    name = "alpha" if "spectrum" in type(guarded.sampler).__module__ else "lr"
    for study, trials in ((alone, 4), (guarded, 6)):
        study.enqueue_trial({name: 2.0})
        study.optimize(objective, n_trials=trials)
    assert settings(guarded.trials[:1]) == places(alone.trials[:1])
    assert in_time(guarded, alone, given=1)


def test_a_prior_that_was_kept_searches_the_same_places_as_none():
    kept = KnobPrior.from_json(FORESEEN.to_json())
    assert (kept.places == BLANK.places).all()  # else its turns are not that search's


def test_a_prior_that_foresees_nothing_begins_with_its_first_place():
    assert BLANK.mode == BLANK.setting(BLANK.places[0])
    assert "lr" in repr(BLANK)


def test_a_prior_that_foresees_nothing_has_no_turns_to_give():
    blank, plain = new_study(KnobSampler(BLANK, seed=1)), new_study(KnobSampler(BLANK, seed=1, guard=False))
    for study in (blank, plain):
        study.optimize(test_knobs.objective, n_trials=5)
    assert settings(blank.trials) == places(plain.trials)


def test_the_first_turn_knows_no_more_of_another_range_than_a_first_trial_would():
    make, _ = SAMPLERS["spectrum"]

    def narrow(trial):
        alpha = trial.suggest_float("alpha", 2.0, 20.0, log=True)
        lam = trial.suggest_float("lambda", 0.5, 5.0, log=True)
        retained, remembered = test_spectrum.outputs(alpha, lam)
        trial.set_user_attr("retained", float(retained))
        trial.set_user_attr("remembered", float(remembered))
        trial.set_constraint("min_retained", 0.95 - float(retained))
        return float(test_spectrum.PRIOR.goal.score(retained, remembered))

    guarded, alone = new_study(make(True)), new_study(make(False))
    guarded.optimize(narrow, n_trials=6)
    alone.optimize(narrow, n_trials=3)
    assert settings(guarded.trials[turn] for turn in TURNS[:3]) == places(alone.trials)
