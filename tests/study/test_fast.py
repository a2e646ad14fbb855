"""Studies with every shortcut against the plain way: same best, same score; what is stopped early says so."""

import json
import random

import numpy as np
import optuna
import pytest
import small_task
import torch
from optuna.trial import TrialState
from small_task import ssd

from ssdtune.cli import main
from ssdtune.errors import ConfigError
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.score import Score
from ssdtune.report.dashboard import attach
from ssdtune.report.html import study_page
from ssdtune.report.view import read_view
from ssdtune.study.cost import cost_of
from ssdtune.study.record import EVALUATION, read_trial
from ssdtune.study.run import run_study
from ssdtune.study.trials import ScoredTrial, best_of, count_trials, leading, scored_trials
from ssdtune.study.tune import unlearned_params

BOX = {"alpha": (0.001, 0.01), "lambda": (0.001, 0.002)}  # ruins the model


class Counting(small_task.Diagonals):
    """Counts dampenings: two for a trial at most."""

    calls = 0

    def dampen(self, *setting):
        self.calls += 1
        return super().dampen(*setting)


@pytest.fixture(scope="module")
def pair(wide, new_study):
    """The same study with all shortcuts and without any."""
    task, analysis = wide
    fast, plain = (new_study("twins", task=task, trials=20, sampler="random") for _ in range(2))
    run_study(fast, task, ssd(task, analysis))
    run_study(plain, task, ssd(task, analysis), exact=True)
    return fast, plain


def test_the_best_is_that_of_the_plain_way(pair):
    fast, plain = pair
    assert fast.best_trial.params == plain.best_trial.params
    assert fast.best_trial.value == pytest.approx(plain.best_trial.value, abs=1e-5)
    assert best_of(scored_trials(fast)).number == fast.best_trial.number


def test_trials_that_are_stopped_keep_an_honest_estimate(pair):
    fast, plain = pair
    stopped = [trial for trial in fast.trials if trial.state == TrialState.PRUNED]
    assert stopped
    for trial in stopped:
        values, full = read_trial(trial), plain.trials[trial.number]
        assert values["stopped"] in ("infeasible", "worse")
        assert trial.value == trial.intermediate_values[values["step"]]
        assert values["step"] < 220
        for name in ("retained", "remembered"):
            truth = read_trial(full)[f"{name}_unclipped"]
            assert abs(values[f"{name}_unclipped"] - truth) <= 6 * values[f"{name}_se"] + 1e-6
        assert set(values) >= {"raw_score", "retain_accuracy", "forget_accuracy", "unknown_accuracy", "rho", "kappa"}
        assert trial.constraints["min_retained"] == pytest.approx(0.95 - values["retained"])
        assert full.number != plain.best_trial.number


def test_stopped_trials_count_and_are_never_the_best(pair):
    fast, _ = pair
    assert count_trials(fast).finished == 20
    for item in scored_trials(fast):
        assert item.estimated == (item.trial.state == TrialState.PRUNED)
    assert not best_of(scored_trials(fast)).estimated
    assert fast.trials[0].state == TrialState.COMPLETE


def test_where_every_trial_ruins_the_model_all_stop_early_and_none_is_the_best(wide, new_study):
    task, analysis = wide
    study = new_study("ruins", task=task, trials=4, **BOX)
    run_study(study, task, ssd(task, analysis))
    scored = scored_trials(study)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 4
    assert best_of(scored) is None
    near = leading(scored)
    assert near.estimated
    assert near.score.violation == min(item.score.violation for item in scored) > 0
    assert cost_of(study).slices < 228
    with pytest.raises(ConfigError, match="no feasible trial"):
        unlearned_params(study, task, analysis)
    lenient = new_study("vain", task=task, trials=3, score={"min_retained": 0.0, "retain_weight": 0.9}, **BOX)
    run_study(lenient, task, ssd(task, analysis))
    assert [trial.state for trial in lenient.trials] == [TrialState.PRUNED] * 3
    with pytest.raises(ConfigError, match="no trial is better than the untouched model"):
        unlearned_params(lenient, task, analysis)


def test_without_a_best_the_commands_show_what_is_nearest(wide, new_study, storage, url, capsys):
    task, analysis = wide
    study = new_study("ruins", task=task, trials=3, storage=storage, **BOX)
    run_study(study, task, ssd(task, analysis))
    number = leading(scored_trials(study)).number

    def told(*arguments):
        main(["study", *arguments, "--storage", url])
        return capsys.readouterr().out

    for command in (["show", "ruins"], ["best", "ruins"], ["rescore", "ruins", "--retain-weight", "0.5"]):
        assert f"trial {number}" in told(*command)
    assert "no feasible trial yet; the nearest is" in told("best", "ruins")
    assert "estimated, as it was stopped early" in told("best", "ruins")
    assert json.loads(told("best", "ruins", "--json"))["estimated"] is True
    assert json.loads(told("show", "ruins", "--json"))["best"] is None
    assert json.loads(told("list", "--json"))[0]["best"] is None
    assert "ruins" in told("list")
    assert "the nearest" in study_page(read_view(study)).lead
    attach(study)


def test_the_leading_trial_is_the_best_in_full_else_the_nearest_of_all():
    def item(violation, value, *, full):
        trial = optuna.trial.create_trial(value=value, state=TrialState.COMPLETE if full else TrialState.PRUNED)
        return ScoredTrial(trial, Score(value, 1.0, 0.0, violation), {"alpha": 1.0, "lambda": 1.0})

    good, estimate = item(-0.1, 0.4, full=True), item(-0.1, 0.6, full=False)
    ruin, near, in_vain = item(1.0, 0.0, full=True), item(0.02, 0.9, full=False), item(-0.05, 0.1, full=False)
    for scored, lead, best in (
        ([good, estimate, ruin], good, good),
        ([ruin, near], near, None),
        ([ruin, near, in_vain], in_vain, None),
        ([ruin], ruin, ruin),
        ([], None, None),
    ):
        assert leading(scored) is lead
        assert best_of(scored) is best


def test_exact_switches_everything_off_and_is_recorded(pair):
    fast, plain = pair
    assert plain.user_attrs[EVALUATION] == {"exact": True, "stop_early": False, "precision": "float32"}
    assert fast.user_attrs[EVALUATION] == {"exact": False, "stop_early": True, "precision": "float32"}
    for trial in plain.trials:
        values = read_trial(trial)
        assert trial.state == TrialState.COMPLETE
        assert values["exact"] is True
        assert "reused_from" not in values
        assert values["slices"] == values["slices_possible"] == 228


def test_a_shuffled_order_changes_nothing_in_exact(wide, new_study):
    task, analysis = wide
    shuffled = {
        name: random.Random(0).sample(list(getattr(task, name)), len(getattr(task, name)))
        for name in ("retain", "forget")
    }
    other = small_task.make_task(model=task.model, **shuffled)
    values = []
    for each in (task, other):
        study = new_study("order", task=each, trials=4)
        run_study(study, each, ssd(each, analysis), exact=True)
        values.append([(trial.value, read_trial(trial)["retain_confidence"]) for trial in study.trials])
    assert values[0] == values[1]


def test_the_account_adds_up(pair):
    fast, plain = (cost_of(study) for study in pair)
    assert plain.slices == plain.possible == 20 * 228
    assert plain.exact == 20
    assert 0 < fast.slices < plain.slices
    assert sum(fast.stopped.values()) == sum(t.state == TrialState.PRUNED for t in pair[0].trials)
    assert fast.plain_seconds > 0
    assert {name for name, value in fast.seconds.items() if value > 0} >= {"unlearn", "reconstruct", "score", "search"}
    words = dict(fast.rows())
    assert words["slices evaluated"].startswith(f"{fast.slices} of 4560")
    assert "infeasible" in words["stopped early"]


def test_the_untouched_model_is_not_measured_again(wide, new_study, monkeypatch):
    """Unless the study was made before its slices were kept."""
    task, analysis = wide
    found, costs = [], []
    for kept in (True, False):
        study = new_study("kept", task=task, trials=8, sampler="random")
        if not kept:
            monkeypatch.setattr("ssdtune.study.run.read_baseline", lambda study: None)
        run_study(study, task, ssd(task, analysis))
        found.append([(trial.state, trial.params) for trial in study.trials])
        costs.append(cost_of(study).slices)
    assert found[0] == found[1]
    assert costs[1] - costs[0] == 228


def test_what_dampens_like_a_stopped_trial_is_stopped_without_a_slice(wide, new_study):
    task, _ = wide
    study = new_study("again", task=task, trials=3, alpha=(0.01, 300.0), **{"lambda": (0.001, 300.0)})
    for setting in ({"alpha": 8.0, "lambda": 6.0}, {"alpha": 0.02, "lambda": 0.01}, {"alpha": 0.02, "lambda": 0.01}):
        study.enqueue_trial(setting)
    counting = Counting(task)
    run_study(study, task, ssd(task, counting))
    _, second, third = study.trials
    assert [second.state, third.state] == [TrialState.PRUNED] * 2
    assert read_trial(third)["reused_from"] == "trial 1 of again"
    assert read_trial(third)["slices"] == 0
    assert counting.calls == 2


def test_a_trial_that_was_stopped_says_nothing_to_another_study(wide, new_study):
    task, analysis = wide
    known = {}
    for name in ("first", "second"):
        study = new_study(name, task=task, trials=1, alpha=(0.01, 300.0), **{"lambda": (0.001, 300.0)})
        study.enqueue_trial({"alpha": 0.02, "lambda": 0.01})
        run_study(study, task, ssd(task, analysis), known=known)
        assert study.trials[0].state == TrialState.PRUNED and "reused_from" not in read_trial(study.trials[0])


def test_a_sampler_that_learns_nothing_of_stopped_trials_has_none(wide, new_study):
    task, analysis = wide
    study = new_study("gp", task=task, trials=12, sampler="gp")
    run_study(study, task, ssd(task, analysis))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_prepared_data_of_other_inputs_are_not_used(wide, new_study):
    task, analysis = wide
    other = small_task.make_task()
    said, evaluator = [], Evaluator(other)
    study = new_study("other", task=task, trials=2, alpha=(0.1, 3.0), **{"lambda": (0.03, 0.3)})
    run_study(study, task, ssd(task, analysis), evaluator=evaluator, stop_early=False, say=said.append)
    assert said == ["model or data changed: preparing them anew"]
    assert read_trial(study.trials[0])["slices_possible"] == 228
    mine = Evaluator(task)
    run_study(study, task, ssd(task, analysis), trials=3, evaluator=mine, say=said.append)
    assert len(said) == 1
    assert mine.account.slices > 0


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_trial_makes_few_commits(sampler, wide, new_study, storage):
    import sqlalchemy

    task, analysis = wide
    study = new_study("few", task=task, trials=3, storage=storage, sampler=sampler)
    commits = []
    sqlalchemy.event.listen(storage.engine, "commit", lambda connection: commits.append(1))
    run_study(study, task, ssd(task, analysis), trials=1)
    commits.clear()
    run_study(study, task, ssd(task, analysis), trials=3)
    assert len(commits) / 2 <= 30  # reads are transactions too


def test_the_estimate_is_what_the_spectrum_sampler_reads(pair):
    from ssdtune.samplers.reading import outputs_of

    for trial in pair[0].trials:
        values, errors = outputs_of(trial)
        assert np.isfinite(values).all()
        assert (max(errors) > 0) == (trial.state == TrialState.PRUNED)


def test_settings_chosen_do_not_depend_on_threads(wide, new_study):
    task, analysis = wide
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        study = new_study("threads", task=task, trials=6)
        run_study(study, task, ssd(task, analysis))
        found.append([(trial.state, trial.params) for trial in study.trials])
    torch.set_num_threads(before)
    assert found[0] == found[1]


optuna.logging.set_verbosity(optuna.logging.ERROR)
