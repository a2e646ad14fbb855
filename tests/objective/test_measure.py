"""Scoring with fewer slices: nothing that may be the best is stopped, and what is stopped is clearly not."""

import pickle

import numpy as np
import pytest
import torch

from ssdtune.objective.estimate import Estimate, estimate_mean
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.measure import Objective, measure_exactly
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.objective.stopping import STOPPED_SE, Incumbent, stop_reason
from ssdtune.unlearning.method import Stage

RULE = ScoreRule(q_retain=0.8, q_forget=0.8, floor=0.4)
GOOD, BAD = Score(0.7, 1.0, 0.3, -0.05), Score(0.5, 0.5, 0.1, 0.45)


def known(mean, se=0.0, seen=8):
    return Estimate(mean, se, seen - 2, seen, 200)


def test_clearly_infeasible_stops_and_doubtful_goes_on():
    assert stop_reason(known(0.4, 0.01), known(0.4), RULE, GOOD) == "infeasible"
    assert stop_reason(known(0.75, 0.01), known(0.4), RULE, GOOD) is None


def test_clearly_worse_stops_and_doubtful_goes_on():
    assert stop_reason(known(0.79, 0.001), known(0.78, 0.005), RULE, GOOD) == "worse"
    assert stop_reason(known(0.79, 0.001), known(0.55, 0.02), RULE, GOOD) is None


def test_only_a_feasible_trial_with_a_higher_score_is_the_better_one():
    assert Incumbent(GOOD).beaten_by(Score(0.8, 1.0, 0.2, -0.05))
    assert not Incumbent(GOOD).beaten_by(Score(0.6, 1.0, 0.4, -0.05))
    assert not Incumbent(GOOD).beaten_by(Score(0.9, 0.5, 0.0, 0.45))


class Given:
    """An unlearner whose stages are given beforehand."""

    analysis = None
    preparation = 0.0

    def __init__(self, *stages):
        self.stages, self.begun = stages, 0

    def __call__(self, setting, seed):
        for stage in self.stages:
            self.begun += 1
            yield stage

    def notes(self, setting):
        return {"c": setting["c"]}


SETTING = {"c": 1.0}


def untouched(rule):
    return Incumbent(rule(rule.q_retain, rule.q_forget))


@pytest.fixture(scope="module")
def objective_of():
    def make(task, rule=None, **options):
        before = evaluate(task)
        rule = rule or ScoreRule(before.quality("retain"), before.quality("forget"), 0.01)
        return Objective(Evaluator(task), rule, before.summary(), **options)

    return make


def test_every_trial_that_may_be_the_best_is_complete(objective_of, mri_task, dampened):
    task = mri_task()
    objective, params = objective_of(task), dampened(task, 0.99)
    outcome = objective.measure(Given(Stage(params, cost=7.0)), SETTING, untouched(objective.rule))
    assert outcome.stopped is None
    assert dict(outcome.means) == pytest.approx(evaluate(task, params).summary(), rel=1e-5, abs=1e-5)
    assert outcome.notes == SETTING
    assert outcome.cost == 7 + outcome.slices == 7 + outcome.possible + outcome.possible  # the untouched model's too
    again = objective.measure(Given(Stage(params, cost=7.0)), SETTING, untouched(objective.rule))
    assert again.cost == 7 + again.possible


def test_what_goes_in_and_comes_out_can_be_sent(objective_of, mri_task, dampened):
    task = mri_task()
    objective = objective_of(task)
    incumbent = Incumbent(Score(0.3, 1.0, 0.9, -0.05), {"retain": np.linspace(0, 1, 8)}, 3)
    sent = pickle.loads(pickle.dumps((SETTING, incumbent)))
    outcome = objective.measure(Given(Stage(dampened(task, 0.9))), *sent)
    back = pickle.loads(pickle.dumps(outcome))
    assert back.values() == outcome.values()
    assert all(np.array_equal(back.columns[name], column) for name, column in outcome.columns.items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_done_once_is_in_the_account_of_the_first_trial(objective_of, mri_task, dampened, precision):
    task = mri_task()
    objective = objective_of(task, untouched=evaluate(task).values, precision=precision)
    outcome = objective.measure(Given(Stage(dampened(task, 0.99))), SETTING, untouched(objective.rule))
    account = objective.evaluator.account
    assert outcome.slices == account.slices
    assert outcome.seconds["io"] == pytest.approx(account.seconds["io"]) and outcome.seconds["io"] > 0


def test_the_plain_way_gives_the_same(objective_of, mri_task, dampened):
    task = mri_task()
    objective, made = objective_of(task, stop_early=False), Given(Stage(dampened(task, 0.9)))
    fast, plain = objective.measure(made, SETTING, untouched(objective.rule)), measure_exactly(task, made, SETTING)
    assert dict(fast.means) == pytest.approx(dict(plain.means), rel=1e-5, abs=1e-5)
    for name, column in plain.columns.items():
        np.testing.assert_allclose(fast.columns[name], column, atol=1e-5)
    assert plain.exact and not fast.exact


def test_before_there_is_a_good_trial_the_untouched_model_is_the_one_to_beat(objective_of, many_slices, dampened):
    before, params = evaluate(many_slices), dampened(many_slices, 0.5)
    after = evaluate(many_slices, params)
    kept, left = after.quality("retain"), after.quality("forget")
    floor = min(left, before.quality("forget")) - 0.01
    ruined = ScoreRule(10 * kept, before.quality("forget"), floor)
    in_vain = ScoreRule(kept * 1.02, left - 0.1, floor - 0.2, retain_weight=0.9, min_retained=0.5)
    for rule, reason in ((ruined, "infeasible"), (in_vain, "worse")):
        objective = objective_of(many_slices, rule)
        objective.measure(Given(Stage(many_slices.params)), SETTING, untouched(rule))  # knows the untouched model
        outcome = objective.measure(Given(Stage(params)), SETTING, untouched(rule))
        assert outcome.stopped == reason
        assert outcome.slices < outcome.possible


def test_a_hopeless_trial_stops_with_estimates_of_every_measure(objective_of, many_slices, dampened):
    params, incumbent = dampened(many_slices, 0.5), Incumbent(Score(0.99, 1.0, 0.0, -0.05))
    objective, full = objective_of(many_slices), evaluate(many_slices, params).summary()
    objective.measure(Given(Stage(many_slices.params)), SETTING, incumbent)
    outcome = objective.measure(Given(Stage(params)), SETTING, incumbent)
    assert outcome.stopped is not None
    assert outcome.slices < outcome.possible
    assert outcome.means.keys() == {name for name in full if "_volume_" not in name}
    rule = objective.rule
    for name, part, scale in (("retain", "retained", rule.q_retain), ("forget", "remembered", rule.q_forget - 0.01)):
        assert abs(outcome.means[f"{name}_ssim"] - full[f"{name}_ssim"]) <= 6 * outcome.errors[part] * scale + 1e-6
        column, controls = outcome.columns[name], objective.evaluator.untouched().columns[name]["ssim"][None]
        assert len(column) < len(many_slices.scored_sets[name])
        seen = estimate_mean(column, controls, slice(0, len(column)))
        assert outcome.errors[part] * scale == pytest.approx(STOPPED_SE * seen.se)  # it stopped where it looked worst
    patient = objective_of(many_slices, stop_early=False)
    assert patient.measure(Given(Stage(params)), SETTING, incumbent).stopped is None


def test_the_last_stage_is_what_counts(objective_of, mri_task, dampened):
    task = mri_task()
    objective = objective_of(task, stop_early=False)
    made = Given(Stage(dampened(task, 0.5)), Stage(task.params, cost=60.0))
    outcome = objective.measure(made, SETTING, untouched(objective.rule))
    assert dict(outcome.means) == pytest.approx(evaluate(task).summary(), abs=1e-5)
    assert outcome.cost >= 60


def test_output_that_is_not_finite_ends_a_trial_as_complete_and_worst(objective_of, mri_task):
    task = mri_task()
    objective = objective_of(task)
    broken = Given(Stage({name: value * np.nan for name, value in task.params.items()}))
    outcome = objective.measure(broken, SETTING, Incumbent(GOOD))
    assert outcome.stopped is None
    assert outcome.broken == ["retain", "forget", "unknown"]
    assert outcome.means["retain_ssim"] is None


def test_float32_means_float32_whatever_torch_is_set_to(objective_of, mri_task, dampened):
    """TF32 and bfloat16 products are off while a trial is unlearned and measured, and as before afterwards."""
    task, seen = mri_task(), []

    class Looks(Given):
        def __call__(self, setting, seed):
            seen.append(torch.backends.mkldnn.matmul.fp32_precision)
            yield from super().__call__(setting, seed)

    objective, made = objective_of(task), Looks(Stage(dampened(task, 0.9)))
    plain = objective.measure(made, SETTING, untouched(objective.rule))
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        again = objective.measure(made, SETTING, untouched(objective.rule))
        measure_exactly(task, made, SETTING)
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert seen == ["ieee"] * 3
    assert dict(again.means) == pytest.approx(dict(plain.means), abs=1e-6)
