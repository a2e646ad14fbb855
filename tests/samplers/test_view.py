"""To TPE stopped trials are complete ones with their estimates, and it proposes what a study of those would make it."""

import math

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial
from small_task import ssd

from ssdtune.samplers.table import SAMPLERS, SamplerFactory, choose_sampler
from ssdtune.samplers.view import ViewSampler, estimates_as_values
from ssdtune.study.large import storage_of
from ssdtune.study.run import run_study
from ssdtune.surrogate.improvement import Goal
from ssdtune.unlearning.ssd import SSD, SSDOptions


class Literal(optuna.samplers.BaseSampler):
    """``inner`` asked about the trial itself in a study of copies, of which those of stopped trials are complete."""

    def __init__(self, inner):
        self.inner = inner

    def before_trial(self, study, trial):
        self.seen = optuna.create_study(direction="maximize")
        self.seen.add_trials([self.copied(other) for other in study.get_trials() if other.number != trial.number])
        self.seen.add_trial(create_trial(state=TrialState.RUNNING))

    @staticmethod
    def copied(trial):
        stopped = trial.state == TrialState.PRUNED and trial.value is not None
        return create_trial(
            state=TrialState.COMPLETE if stopped else trial.state,
            value=trial.value,
            params=trial.params,
            distributions=trial.distributions,
            constraints=trial.constraints,
        )

    def infer_relative_search_space(self, study, trial):
        return self.inner.infer_relative_search_space(self.seen, trial)

    def sample_relative(self, study, trial, search_space):
        return self.inner.sample_relative(self.seen, self.seen.trials[-1], search_space)

    def sample_independent(self, study, trial, name, distribution):
        return self.inner.sample_independent(self.seen, trial, name, distribution)


def with_estimates(inner):
    return ViewSampler(inner, estimates_as_values)


def run(wrap, trials, seed=0, fixed=False):
    """Every fourth trial is complete, two are stopped early, one of every ten stays under way, and some fail."""
    study = optuna.create_study(direction="maximize", study_name="s")
    for number in range(trials):
        study.sampler = wrap(TPESampler(seed=1000 * seed + number))
        trial = study.ask()
        alpha = trial.suggest_float("alpha", *((5, 5) if fixed else (0.1, 300)), log=True)
        lam = trial.suggest_float("lambda", 0.03, 300, log=True)
        value = -((math.log10(alpha) - 1) ** 2) - (math.log10(lam) - 0.5) ** 2
        if number % 10 == 7:
            continue
        trial.set_constraint("bound", alpha - 100)
        if number % 4 == 1:
            study.tell(trial, value)
        elif number % 4 == 2 and number % 3 == 0:
            study.tell(trial, state=TrialState.FAIL if number % 8 == 6 else TrialState.PRUNED)
        else:
            trial.report(value + 0.1, 16)
            study.tell(trial, state=TrialState.PRUNED)
    return study


@pytest.mark.parametrize(("seed", "fixed"), [(0, False), (1, False), (0, True)])
def test_it_proposes_what_a_study_of_complete_trials_would(seed, fixed):
    found, literal = run(with_estimates, 24, seed, fixed), run(Literal, 24, seed, fixed)
    states = [trial.state for trial in found.trials]
    assert states.count(TrialState.PRUNED) > 12 and states.count(TrialState.RUNNING) == 2
    assert [trial.params for trial in found.trials] == [trial.params for trial in literal.trials]
    plain = run(lambda inner: inner, 24, seed, fixed)
    assert [trial.params for trial in plain.trials] != [trial.params for trial in found.trials]


def test_it_proposes_without_a_word_and_changes_nothing(capfd):
    study = run(with_estimates, 12)
    before, trials = optuna.logging.get_verbosity(), study.get_trials()
    capfd.readouterr()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        study.ask().suggest_float("alpha", 0.1, 300, log=True)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    assert "created" not in capfd.readouterr().err
    assert study.get_trials()[:12] == trials


def test_tpe_proposes_with_early_stopping_what_it_would_without(task, analysis, new_study, storage):
    new_study("first", storage=storage)  # so that the storage numbers trials otherwise than a copy in memory does
    settings = []
    for stop_early, kept in ((True, storage), (False, None)):
        study = new_study("same", trials=16, sampler="tpe", score={"min_retained": 0.9}, storage=kept)
        run_study(study, task, ssd(task, analysis), stop_early=stop_early)
        settings.append([trial.params for trial in study.trials])
        stopped = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
        assert bool(stopped) == stop_early
    assert settings[0] == settings[1]


@pytest.mark.parametrize("name", [name for name, choice in SAMPLERS.items() if not choice.keeps_state])
def test_trials_that_were_read_already_are_not_read_again(name, monkeypatch):
    study = run(lambda inner: inner, 12)
    factory = SamplerFactory(choose_sampler(name), 0, "s", Goal())
    others, knobs = study.get_trials(), SSD().knobs(SSDOptions())
    proposals = []
    for given in (None, others):
        study.sampler = factory.make(12, given)
        trial = study.ask()
        with monkeypatch.context() as patched:
            if given is not None:
                patched.setattr(storage_of(study), "get_all_trials", None)
            proposals.append([trial.suggest_float(knob.name, knob.low, knob.high, log=True) for knob in knobs])
        study.tell(trial, state=TrialState.FAIL)
    assert proposals[0] == proposals[1]
