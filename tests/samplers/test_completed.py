"""To TPE stopped trials are complete ones with their estimates, and it proposes what a study of those would make it."""

import copy
import math

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial
from small_task import ssd

from ssdtune.samplers.completed import CompletedSampler
from ssdtune.study.run import run_study


class View(InMemoryStorage):
    """A study whose trials are those given; what is told to it is not kept."""

    def __init__(self, study):
        super().__init__()
        self.name, self.shown = study.study_name, [self.completed(trial) for trial in study.get_trials()]
        self.create_new_study(study.directions, study.study_name)

    @staticmethod
    def completed(trial):
        if trial.state != TrialState.PRUNED or trial.value is None:
            return trial
        complete = create_trial(
            value=trial.value,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            constraints=trial.constraints,
        )
        complete.number = trial.number
        return complete

    def get_all_trials(self, study_id, deepcopy=True, states=None):
        chosen = [trial for trial in self.shown if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def set_trial_system_attr(self, trial_id, key, value):
        pass


class Literal(optuna.samplers.BaseSampler):
    """``inner`` asked about the trial itself, in a view of the study that differs in its stopped trials alone."""

    def __init__(self, inner):
        self.inner = inner

    def before_trial(self, study, trial):
        self.seen = optuna.load_study(study_name=study.study_name, storage=View(study))

    def infer_relative_search_space(self, study, trial):
        return self.inner.infer_relative_search_space(self.seen, trial)

    def sample_relative(self, study, trial, search_space):
        return self.inner.sample_relative(self.seen, trial, search_space)

    def sample_independent(self, study, trial, name, distribution):
        return self.inner.sample_independent(self.seen, trial, name, distribution)


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
def test_it_proposes_what_a_view_of_the_study_would(seed, fixed):
    found, literal = run(CompletedSampler, 24, seed, fixed), run(Literal, 24, seed, fixed)
    states = [trial.state for trial in found.trials]
    assert states.count(TrialState.PRUNED) > 12 and states.count(TrialState.RUNNING) == 2
    assert [trial.params for trial in found.trials] == [trial.params for trial in literal.trials]
    plain = run(lambda inner: inner, 24, seed, fixed)
    assert [trial.params for trial in plain.trials] != [trial.params for trial in found.trials]


def test_it_proposes_without_a_word_and_changes_nothing(capfd):
    study = run(CompletedSampler, 12)
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
