"""Several models at once give what each gives by itself, and are left to themselves where that is in doubt."""

from dataclasses import replace

import numpy as np
import pytest
import small_classifier
import torch

from ssdtune.mri.networks.stock import UnetSizes
from ssdtune.objective import together
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.together import measure_together, room_for

SETS = ("retain", "forget")


def alone(evaluator, params, slices=4):
    found = evaluator.start(params)
    for name in SETS:
        found.extend(name, slices)
    return found


@pytest.mark.parametrize("only", ["cascades", "sens_net", ""])
def test_models_at_once_are_models_one_by_one(mri_task, dampened, only):
    task = mri_task()
    evaluator = Evaluator(task)
    params = [dampened(task, factor, only) for factor in (0.95, 0.9, 0.8)] + [dampened(task, 0.9, "cascades.1")]
    for found, one in zip(measure_together(evaluator, params, SETS, 4), params, strict=True):
        own = alone(Evaluator(task), one)  # whose maps are its own
        assert found.done == own.done == {"retain": 4, "forget": 4, "unknown": 0}
        for name in SETS:
            assert list(found.columns[name]) == list(own.columns[name])
            for measure, column in own.columns[name].items():
                np.testing.assert_allclose(found.columns[name][measure], column, rtol=1e-5, atol=1e-6)


def test_what_was_begun_goes_on_as_one_evaluation(mri_task, dampened):
    task = mri_task()
    evaluator = Evaluator(task)
    params = [dampened(task, factor) for factor in (0.95, 0.9)]
    for found, one in zip(measure_together(evaluator, params, SETS, 3), params, strict=True):
        found.finish()
        assert found.measures().summary() == pytest.approx(evaluator.measures(one).summary(), rel=1e-5, abs=1e-6)


def test_a_classifier_without_a_quick_form():
    task = small_classifier.task()
    evaluator = Evaluator(task)
    params = [{name: value * factor for name, value in task.params.items()} for factor in (0.9, 0.5, 0.1)]
    for found, one in zip(measure_together(evaluator, params, SETS, 4), params, strict=True):
        np.testing.assert_allclose(found.quality("retain"), alone(evaluator, one).quality("retain"), atol=1e-6)


def test_one_model_that_is_not_finite_leaves_each_to_itself(mri_task, dampened):
    task = mri_task()
    broken = {name: value * float("nan") for name, value in task.params.items()}
    assert measure_together(Evaluator(task), [dampened(task), broken], SETS, 4) == []


class Decides(torch.nn.Module):
    """A model whose way depends on its data, which vmap cannot follow."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, points):
        output = self.model(points)
        return output if output.sum() > 0 else -output


class Full(Decides):
    """A model for which there is no memory."""

    def forward(self, points):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_model_that_vmap_cannot_run_is_not_tried_again():
    task = small_classifier.task()
    evaluator = Evaluator(replace(task, model=Decides(task.model)))
    assert room_for(evaluator, SETS, 4) == together.MOST
    assert measure_together(evaluator, [evaluator.task.params] * 4, SETS, 4) == []
    assert room_for(evaluator, SETS, 4) == 0
    assert alone(evaluator, None).done["retain"] == 4


def test_out_of_memory_is_said_and_leaves_batches_as_they_are():
    task, said = small_classifier.task(), []
    evaluator = Evaluator(replace(task, model=Full(task.model)), say=said.append)
    assert measure_together(evaluator, [evaluator.task.params] * 8, SETS, 8) == []
    assert said == ["out of memory on cpu: going on with one model at a time"]
    assert room_for(evaluator, SETS, 8) == 0
    assert evaluator.batch_of(1) == 64


@torch.no_grad()
def test_a_unet_without_sensitivity_maps():
    network = UnetSizes(channels=4, pools=2).reconstructor().eval()
    generator = torch.Generator().manual_seed(0)
    images, (mean, std) = torch.randn(3, 32, 32, generator=generator), torch.rand(2, 3, generator=generator)
    quick, params = network.quick(), dict(network.named_parameters())
    sample = quick.prepare(images, mean, std + 0.5)
    several = [{name: value * factor for name, value in params.items()} for factor in (1.0, 0.7)]
    stacked = {name: torch.stack([one[name] for one in several]) for name in params}
    outputs = torch.vmap(quick, (0, None, None))(stacked, sample, None)
    for output, one in zip(outputs, several, strict=True):
        torch.testing.assert_close(output, quick(one, sample), rtol=1e-5, atol=1e-5)


def test_room_is_for_small_models_on_small_slices(mri_task, monkeypatch):
    evaluator = Evaluator(mri_task())
    assert room_for(evaluator, SETS, 8) == 8
    monkeypatch.setattr(evaluator, "_values", 4 * 8 * 2 * 2 * 32 * 36 // 2)
    assert room_for(evaluator, SETS, 8) == 0
    monkeypatch.undo()
    monkeypatch.setattr(together, "SMALL", 100)
    assert room_for(evaluator, SETS, 8) == 0
    assert room_for(Evaluator(mri_task(), batch_size=1), SETS, 8) == 0
