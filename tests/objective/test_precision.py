"""A shorter number format is used only where quality does not move, and what was decided is said."""

import pytest
import small_classifier
import torch

from ssdtune.objective import precision
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.measure import Objective
from ssdtune.objective.precision import choose_precision
from ssdtune.objective.score import ScoreRule
from ssdtune.objective.stopping import Incumbent
from ssdtune.unlearning.method import Stage


@pytest.mark.parametrize(("tolerance", "expected"), [(1.0, torch.bfloat16), (0.0, torch.float32)])
def test_it_falls_back_where_quality_moves_and_says_so(mri_task, monkeypatch, tolerance, expected):
    monkeypatch.setattr(precision, "TOLERANCE", tolerance)
    said = []
    evaluator = Evaluator(mri_task(), say=said.append)
    choose_precision(evaluator, "bfloat16")
    assert evaluator.dtype == expected
    assert len(said) == 1
    assert str(expected).removeprefix("torch.") in said[0].split(":")[0]


def test_cpus_compute_in_float32_unless_asked(mri_task):
    evaluator = Evaluator(mri_task())
    choose_precision(evaluator)
    assert evaluator.dtype == torch.float32


def test_one_study_leaves_its_format_to_no_other(mri_task):
    evaluator = Evaluator(mri_task())
    evaluator.compute_in(torch.bfloat16)
    choose_precision(evaluator)
    assert evaluator.dtype == torch.float32


def test_a_model_without_another_form_says_so():
    said = []
    choose_precision(Evaluator(small_classifier.task(), say=said.append), "bfloat16")
    assert said == ["computing in float32: the model has no other form"]


def test_means_in_bfloat16_are_corrected_by_what_the_untouched_model_differs(mri_task, monkeypatch):
    monkeypatch.setattr(precision, "TOLERANCE", 1.0)
    task = mri_task()
    baseline = evaluate(task)
    evaluator, rule = Evaluator(task), ScoreRule(baseline.quality("retain"), baseline.quality("forget"), 0.01)

    class AsItIs:
        def __call__(self, setting, seed):
            yield Stage(task.params)

        def notes(self, setting):
            return {}

    objective = Objective(evaluator, rule, baseline.summary(), precision="bfloat16")
    untouched = objective.measure(AsItIs(), {}, Incumbent(rule(rule.q_retain, rule.q_forget)))
    assert untouched.precision == "bfloat16"
    assert dict(untouched.means) == pytest.approx(baseline.summary(), abs=1e-9)
    raw = evaluator.measures(None).summary()
    assert raw["retain_ssim"] != pytest.approx(baseline.summary()["retain_ssim"], abs=1e-9)


def test_maps_of_another_format_are_not_used(mri_task):
    evaluator = Evaluator(mri_task())
    exact = evaluator.untouched().measures().summary()
    evaluator.compute_in(torch.bfloat16)
    evaluator.untouched()
    evaluator.compute_in(torch.float32)
    assert evaluator.untouched().measures().summary() == pytest.approx(exact, abs=1e-7)
