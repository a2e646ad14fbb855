"""Scoring with fewer slices: nothing that may be the best is stopped, and what is stopped is clearly not."""

import numpy as np
import pytest

from ssdtune.objective.estimate import Estimate
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.score import Score, ScoreRule
from ssdtune.objective.stopping import Standing, stop_reason
from ssdtune.objective.trial import TrialScorer

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
    assert Standing(GOOD).beaten_by(Score(0.8, 1.0, 0.2, -0.05))
    assert not Standing(GOOD).beaten_by(Score(0.6, 1.0, 0.4, -0.05))
    assert not Standing(GOOD).beaten_by(Score(0.9, 0.5, 0.0, 0.45))


@pytest.fixture(scope="module")
def scorer_of(mri_task):
    task = mri_task()
    evaluator = Evaluator(task)
    before = evaluate(task)
    rule = ScoreRule(before.quality("retain"), before.quality("forget"), 0.01)
    return lambda **options: TrialScorer(evaluator, rule, **options)


def test_every_trial_that_may_be_the_best_is_complete(scorer_of, mri_task, dampened):
    scorer, params = scorer_of(), dampened(mri_task(), 0.99)
    scored = scorer(params)
    assert scored.stopped is None
    assert scored.means == pytest.approx(evaluate(mri_task(), params).summary(), rel=1e-5, abs=1e-5)
    scorer.stand_against(BAD)
    assert scorer.best.score.value == pytest.approx(0.2)  # an infeasible trial is no match for the untouched model
    assert scorer(params).stopped is None


def test_before_there_is_a_good_trial_the_untouched_model_is_the_one_to_beat(many_slices, dampened):
    evaluator = Evaluator(many_slices)
    before, params = evaluator.measures(None), dampened(many_slices, 0.5)
    after = evaluator.measures(params)
    kept, left = after.quality("retain"), after.quality("forget")
    floor = min(left, before.quality("forget")) - 0.01
    ruined = ScoreRule(10 * kept, before.quality("forget"), floor)
    in_vain = ScoreRule(kept * 1.02, left - 0.1, floor - 0.2, retain_weight=0.9, min_retained=0.5)
    for rule, reason in ((ruined, "infeasible"), (in_vain, "worse")):
        scored = TrialScorer(evaluator, rule)(params)
        assert scored.stopped == reason
        assert scored.slices < evaluator.slices


def test_a_hopeless_trial_stops_with_estimates_of_every_measure(mri_task, dampened, many_slices):
    task = many_slices
    evaluator = Evaluator(task)
    before = evaluator.measures(None)
    scorer = TrialScorer(evaluator, ScoreRule(before.quality("retain"), before.quality("forget"), 0.01))
    scorer.stand_against(Score(0.99, 1.0, 0.0, -0.05))
    params = dampened(task, 0.5)
    scored = scorer(params)
    full = evaluate(task, params).summary()
    assert scored.stopped is not None
    assert scored.slices < evaluator.slices
    assert scored.means.keys() == full.keys()
    for name in ("retain", "forget"):
        estimate = scored.estimates[name]
        assert abs(estimate.mean - full[f"{name}_ssim"]) <= estimate.half_width(0.9999) + 1e-6
    assert scorer.stop_early and not TrialScorer(evaluator, scorer.rule, stop_early=False)(params).stopped


def test_output_that_is_not_finite_ends_a_trial_as_complete_and_worst(scorer_of, mri_task):
    scorer = scorer_of()
    scorer.stand_against(GOOD)
    scored = scorer({name: value * np.nan for name, value in mri_task().params.items()})
    assert scored.stopped is None
    assert scored.broken == ["retain", "forget", "unknown"]
    assert np.isnan(scored.means["retain_ssim"])
