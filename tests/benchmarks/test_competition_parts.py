"""The competition's parts around the replay: who runs where, held-out folds, wrong priors, rules without search."""

import argparse

import numpy as np
import pytest

from benchmarks.competition.adversarial import KINDS, adversarial_priors, mode_of
from benchmarks.competition.choosers import regret_at
from benchmarks.competition.held_out import BUDGET, LONG, plan, plan_ablations, prefixed, report, stratified
from benchmarks.competition.priors import HELD_OUT, WHOLE, Predicted, calibration_metrics
from benchmarks.competition.runs import SETTINGS, Job
from benchmarks.competition.tables import (
    Ledger,
    ablation_metrics,
    adversarial_metrics,
    rank_metrics,
    trap_metrics,
    trap_words,
)
from ssdtune.plane.surface import ResponseSurface
from ssdtune.prior.calibration import Calibration, HeldOut


class Named:
    """A replay as far as its name goes, with a score that falls with the distance from a threshold of its own."""

    def __init__(self, key, family):
        self.key, self.family, self.kind = key, family, family.split("/")[0]

    def scores(self, alpha, lam, goal):
        s = 1 / (1 + np.abs(np.log10(np.atleast_1d(alpha)) - int(self.key[-1]) + 0.3))
        return s, np.ones(s.shape, bool)


TASKS = [
    Named("mri-000-0", "bias/knee"),
    Named("mri-000-1", "blur/knee"),
    Named("mri-001-0", "bias/brain"),
    Named("mri-001-1", "bias/knee"),
    Named("vision-000", "class/mnist"),
]


def predicted(sd=0.1, noise=0.1, n=400):
    rng = np.random.default_rng(0)
    found = {}
    for task in TASKS:
        level = 0.4 + 0.1 * rng.standard_normal()
        response = ResponseSurface(
            np.array([-3.0, -1.0]),
            np.array([-1.0, 0.0]),
            np.array([1.0, -1.0]),
            np.array([[[1.0, 1.0], [level, 0.9]]]),
            np.array([[[1.0, 1.0], [0.1, 0.5]]]),
            np.array([0.02, 0.02]),
            np.ones((2, 2)),
        )
        members = rng.uniform(size=(1, n, 2))
        truth = members[0] + noise * rng.standard_normal((n, 2))
        calibration = Calibration(np.full((2, 10), sd), np.ones((2, 2)), 0.0)
        found[task.key] = Predicted(response.to_json(), HeldOut(members, truth, np.zeros((n, 2))), calibration)
    return found


@pytest.mark.parametrize(
    ("variant", "shared"),
    [("spectrum", lambda t: t.family), ("kind-out", lambda t: t.kind), ("site-out", lambda t: t.key[:7])],
)
def test_what_is_held_out_together_shares_a_fold(variant, shared):
    folds = HELD_OUT[variant].fold_of(TASKS)
    assert len(set(folds)) > 1
    for task, fold in zip(TASKS[:4], folds, strict=False):
        assert {f for other, f in zip(TASKS, folds, strict=True) if shared(other) == shared(task)} == {fold}


def test_tasks_are_spread_over_families():
    assert stratified(TASKS, 4) == ["mri-000-0", "mri-000-1", "mri-001-0", "vision-000"]


def wrong_priors(own):
    return {name: adversarial_priors(own, TASKS, goal) for name, goal in SETTINGS.items()}


def test_adversarial_priors_are_right_where_nothing_is_selected_and_wrong_elsewhere():
    own, goal = predicted(), SETTINGS["w0.2"]
    wrong = adversarial_priors(own, TASKS, goal)
    assert set(wrong) == set(KINDS)
    family, by_key = {task.key: task.family for task in TASKS}, {task.key: task for task in TASKS}
    for key, each in own.items():
        source = next(k for k, p in own.items() if p.response is wrong["worst-of-ten"][key])
        assert family[source] != family[key]
        strangers = [k for k in own if family[k] != family[key]]
        regrets = {k: regret_at(by_key[key], mode_of(own[k].response, goal), goal, best=1.0) for k in strangers}
        assert regrets[source] == pytest.approx(max(regrets.values()))  # fewer than ten others: all were tried
        one, moved = (ResponseSurface.from_json(wrong[kind][key]) for kind in ("wrong-task", "shifted"))
        np.testing.assert_allclose(np.abs(moved.log_alpha - one.log_alpha), 1, rtol=1e-6)
        assert (moved.retained[:, 0] == 1).all()
        surface, turned = ResponseSurface.from_json(each.response), ResponseSurface.from_json(wrong["inverted"][key])
        band = goal.feasible(surface.retained.mean(axis=0))
        band[0] = False
        np.testing.assert_array_equal(turned.remembered[:, ~band], surface.remembered[:, ~band])
        if band.sum() > 1:  # what was the best there is the worst now
            assert turned.remembered[:, band].ravel().argmax() == surface.remembered[:, band].ravel().argmin()


def test_coverage_is_the_stated_level_where_the_stated_sd_is_right():
    right, narrow = calibration_metrics(predicted()), calibration_metrics(predicted(sd=0.05))
    assert right["calibration.retained.coverage_80"] == pytest.approx(0.8, abs=0.04)
    assert narrow["calibration.retained.coverage_80"] < 0.6
    assert narrow["calibration.log_likelihood"] < right["calibration.log_likelihood"]


def test_every_sampler_runs_on_the_same_tasks_with_its_budget():
    own = predicted()
    keys = list(own)
    chosen = argparse.Namespace(quick=False, seed=0)
    jobs = plan(chosen, {"spectrum": own, "kind-out": own}, wrong_priors(own), keys[:2], keys)
    for setting in SETTINGS:
        mine = [job for job in jobs if job.setting == setting]
        assert {job.task for job in mine if job.label in ("spectrum", "tpe")} == set(keys)
        assert {job.task for job in mine if job.label in ("gp", "wrong-task", "kind-out")} == set(keys[:2])
        assert {job.trials for job in mine if job.label == "tpe"} == {LONG}
        assert {job.trials for job in mine if job.label == "gp-plane"} == {BUDGET}
    assert len({(j.setting, j.label, j.task, j.seed) for j in jobs}) == len(jobs)


def test_a_wrong_prior_is_judged_against_none_and_ranks_against_rivals():
    ledger = Ledger({("w0.2", name): 1.0 for name in "abc"})
    for task in "abc":
        for label, level in (("no-prior", 0.8), ("shifted", 0.6), ("tpe", 0.4)):
            ledger.add(Job("w0.2", label, label, task, 0, 30), np.full(30, level))
    metrics = adversarial_metrics(ledger, "w0.2", ["shifted"], "no-prior")
    assert metrics["w0.2.adversarial.aur_ratio"] == pytest.approx(2)
    assert metrics["w0.2.adversarial.shifted.minus_tpe_30"] == pytest.approx(-0.2)
    lines = []
    ranks = rank_metrics(ledger, "w0.2", ["no-prior", "tpe"], lines)
    assert (ranks["w0.2.mean_rank.no-prior"], ranks["w0.2.mean_rank_10.tpe"]) == (1, 2)
    assert "Nemenyi" in lines[0]


def test_a_trap_is_a_task_on_which_the_prior_costs_trials():
    ledger = Ledger({("w0.2", name): 1.0 for name in "abc"})
    reached = {"a": (15, 7), "b": (8, 5), "c": (31, 31)}  # trials with the prior and without; none of the 30 solves c
    for task, trials in reached.items():
        for label, count in zip(("spectrum", "no-prior"), trials, strict=True):
            ledger.add(Job("w0.2", label, label, task, 0, 30), np.where(np.arange(1, 31) >= count, 1.0, 0.5))
    metrics = trap_metrics(ledger, "w0.2", "spectrum", "no-prior")
    assert metrics["w0.2.trap.max_ratio"] == pytest.approx(13 / 7)
    assert metrics["w0.2.trap.stuck_tasks"] == 1
    assert "w0.2.trap.null.stuck_tasks" not in metrics  # one seed says nothing of luck
    assert metrics["w0.2.trap.undecided_tasks"] == 0 and not metrics["w0.2.trap.censored"]


def test_a_search_that_the_budget_ends_is_a_trap_or_undecided():
    ledger = Ledger({("w0.2", name): 1.0 for name in "ab"})
    for task, arrived in {"a": 10, "b": 25}.items():  # without prior; with it neither arrives
        for label, count in (("spectrum", 99), ("no-prior", arrived)):
            ledger.add(Job("w0.2", label, label, task, 0, 30), np.where(np.arange(1, 31) >= count, 1.0, 0.5))
    metrics = trap_metrics(ledger, "w0.2", "spectrum", "no-prior")
    assert metrics["w0.2.trap.stuck_tasks"] == 1 and metrics["w0.2.trap.undecided_tasks"] == 1
    assert metrics["w0.2.trap.max_ratio"] == pytest.approx(29 / 10) and metrics["w0.2.trap.censored"]
    assert trap_words(metrics, "w0.2") == "on 1 tasks (most at least 2.90; 1 undecided)"


def test_luck_alone_breaks_the_bound_of_a_trap_as_often_as_it_does_between_seeds():
    ledger = Ledger({("w0.2", name): 1.0 for name in "abc"})
    reached = {"a": ((9, 9), (2, 8)), "b": ((5, 5), (5, 5)), "c": ((30, 6), (6, 6))}  # of two seeds: with, without
    for task, both in reached.items():
        for label, trials in zip(("spectrum", "no-prior"), both, strict=True):
            for seed, count in enumerate(trials):
                ledger.add(Job("w0.2", label, label, task, seed, 30), np.where(np.arange(1, 31) >= count, 1.0, 0.5))
    metrics = trap_metrics(ledger, "w0.2", "spectrum", "no-prior")
    assert metrics["w0.2.trap.null.stuck_tasks"] == 0.5  # a: 8 trials against 2, and not the other way round
    assert metrics["w0.2.trap.one_seed.stuck_tasks"] == 1  # c from its first seed, a against the lucky one


def test_an_ablation_is_compared_task_by_task():
    ledger = Ledger({("w0.2", name): 1.0 for name in "abc"})
    for task, level in zip("abc", (0.5, 0.7, 0.9), strict=True):
        for fit in range(2):
            ledger.add(Job("w0.2", WHOLE, "spectrum", task, fit, 5), np.full(5, level))
            ledger.add(Job("w0.2", "no-damage", "spectrum", task, fit, 5), np.full(5, level - 0.1 * fit))
    found = ablation_metrics(ledger, "w0.2", [WHOLE, "no-damage"], WHOLE)
    assert found == pytest.approx(
        {f"w0.2.ablation.no-damage.delta{end}": 0.05 for end in ("", ".lo", ".hi")}
    )  # the tasks differ, what was lost does not


def test_the_report_has_every_number_of_the_issue():
    own = predicted()
    chosen = argparse.Namespace(quick=False, seed=0)
    keys = list(own)
    jobs = plan(chosen, {"spectrum": own, "kind-out": own}, wrong_priors(own), keys[:3], keys)
    fits = [{key: each.response for key, each in own.items()}] * 3
    jobs += plan_ablations({WHOLE: fits, "no-damage": fits}, keys, 0)
    ledger = Ledger({(setting, key): 1.0 for setting in SETTINGS for key in keys})
    rng = np.random.default_rng(0)
    for job in jobs:
        ledger.add(job, rng.uniform(size=job.trials))
    setting, lines = "w0.5_min0.95", []
    metrics = report(ledger, setting, KINDS, [WHOLE, "no-damage"], lines)
    for sampler in ("spectrum", "tpe", "gp-plane", "random"):
        assert f"{setting}.median_trials.{sampler}" in metrics
        assert f"{setting}.mean_rank.{sampler}.lo" in metrics
        assert all(f"{setting}.regret.{sampler}.{n}" in metrics for n in (1, 3, 5, 10, 15, 30, 40))
    assert f"{setting}.win_rate_vs_tpe" in metrics
    assert f"{setting}.adversarial.aur_ratio" in metrics
    assert f"{setting}.trap.null.stuck_tasks" in metrics
    assert f"{setting}.win_rate_vs_no_prior.hi" in metrics
    assert f"{setting}.ablation.no-damage.delta" in metrics
    assert all(np.isfinite(value) for value in metrics.values())
    assert any("ablation" in line for line in lines)
    assert prefixed(f"{setting}.trap.stuck_tasks").startswith(f"ssd.{setting}") and prefixed("families") == "families"
