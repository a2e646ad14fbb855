"""Moments of streamed gradients against their definitions, and the published SSD importance against ours."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ssdtune.fisher.analysis import analyse
from ssdtune.fisher.diagonal import Moments

pytestmark = pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")


def published_importance(task, samples, batch_size):
    """The importance loop of the SSD repository (Foster et al., AAAI 2024, ``calc_importance``), line by line."""
    model = task.model
    parameters = {name: value.clone().requires_grad_() for name, value in task.params.items()}
    importances = {name: torch.zeros_like(value) for name, value in parameters.items()}
    loader = DataLoader(samples, batch_size=batch_size, shuffle=False)
    for x, y in loader:
        for value in parameters.values():
            value.grad = None
        out = torch.func.functional_call(model, parameters, x)
        loss = task.loss(out, y)
        loss.backward()
        for name, value in parameters.items():
            importances[name] += value.grad.clone().pow(2)
    return {name: value / float(len(loader)) for name, value in importances.items()}


@pytest.mark.parametrize("batch_size", [1, 3, 4, 32])
@pytest.mark.parametrize("kind", ["perceptron", "complex"])
def test_batch_diagonals_are_those_of_the_published_code(make, kind, batch_size):
    task = getattr(make, kind)()
    analysis = analyse(task, definition="batch", batch_size=batch_size)
    for samples, diagonal in ((task.forget, analysis.forget.diagonal), (task.retain, analysis.retain.diagonal)):
        wanted = published_importance(task, samples, batch_size)
        for name, value in analysis.unflatten(torch.from_numpy(diagonal)).items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-10)


def test_batches_of_one_are_per_sample(make):
    task = make.perceptron()
    per_sample, batch = analyse(task), analyse(task, definition="batch", batch_size=1)
    np.testing.assert_allclose(per_sample.forget.diagonal, batch.forget.diagonal, rtol=1e-4, atol=1e-12)


def test_the_full_denominator_is_the_diagonal_of_the_whole_training_set(make):
    task = make.perceptron()
    analysis = analyse(task, denominator="full")
    rows = np.concatenate([make.gradients(task, task.retain), make.gradients(task, task.forget)])
    np.testing.assert_allclose(analysis.denominator_diagonal, (rows**2).mean(0), rtol=1e-4, atol=1e-12)
    assert analysis.ratios.values.max() <= (1 + 1e-5) / analysis.phi


def test_moments_are_sums_of_float64():
    rows = torch.randn(50, 3000) * 10 ** torch.linspace(-6, 6, 50)[:, None]
    moments = Moments(3000)
    norms = torch.cat([moments.add(rows[:20]), moments.add(rows[20:21]), moments.add(rows[21:])])
    found, exact = moments.finish(), rows.double()
    np.testing.assert_allclose(norms, exact.square().sum(1), rtol=1e-13)
    np.testing.assert_allclose(found.diagonal, exact.square().mean(0), rtol=1e-7)  # float32's rounding is 6e-8
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-6)
    assert found.trace == pytest.approx(float(exact.square().sum() / 50), rel=1e-13)


def test_rows_are_read_only():
    """Also those that are float64 already, which a conversion would not copy."""
    for dtype in (torch.float32, torch.float64):
        rows = torch.randn(3, 2000, dtype=dtype)
        before = rows.clone()
        Moments(2000).add(rows)
        assert torch.equal(rows, before)
