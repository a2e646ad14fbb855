"""Per-sample gradients: vectorised, looped and literal autograd agree; every unit comes once; faults are named."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from ssdtune.errors import DataError, ModelError
from ssdtune.fisher import gradients
from ssdtune.fisher.gather import evenly_spaced, gather
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.memory import MemoryPlan
from ssdtune.fisher.units import Units, stack
from ssdtune.progress import silent
from ssdtune.task import Task

ROOMY = MemoryPlan(kept=(True,), workspace=1e9, view=0.0)


def rows_of(engine, units):
    """All gradients (n, P), losses (n,) and embeddings of a stream, and the unit numbers in the order they came."""
    blocks = [(b.numbers, b.rows.clone(), b.losses, b.embeddings) for b in engine.stream(units)]
    numbers, rows, losses, embeddings = zip(*blocks, strict=True)
    together = None if embeddings[0] is None else np.concatenate(embeddings)
    return torch.cat(rows).numpy(), np.concatenate(losses), together, [n for part in numbers for n in part]


def relative(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("most", [64, 31, 1])
@pytest.mark.parametrize("kind", ["perceptron", "complex"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_way_equals_plain_autograd(make, kind, most, batch_size):
    task = getattr(make, kind)(retain=43)
    found, _, _, numbers = rows_of(GradientEngine(task, most=most), Units(task.retain, batch_size))
    assert relative(found, make.gradients(task, task.retain, batch_size)) < 1e-5
    assert numbers == list(range(-(-43 // batch_size)))


def test_vectorised_equals_looped_for_a_varnet(varnet_task, make):
    engines = {"vectorised": GradientEngine(varnet_task), "loop": GradientEngine(varnet_task, most=1)}
    found = {method: rows_of(engine, Units(varnet_task.forget)) for method, engine in engines.items()}
    assert relative(found["vectorised"][0], found["loop"][0]) < 1e-5
    assert relative(found["loop"][0], make.gradients(varnet_task, varnet_task.forget)) < 1e-5
    np.testing.assert_allclose(found["vectorised"][1], found["loop"][1], rtol=1e-5)
    np.testing.assert_allclose(found["vectorised"][2], found["loop"][2], rtol=1e-4, atol=1e-6)
    assert not engines["vectorised"].failure


def test_samples_of_several_shapes(make):
    """Neighbours of one shape go together; a mini-batch of two shapes is averaged by its parts."""

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.filter = nn.Conv2d(1, 3, 3)

        def forward(self, image):
            return self.filter(image[:, None]).square().mean((-2, -1))

    torch.manual_seed(0)
    samples = [(torch.randn(5 + (i // 6) % 2, 6), torch.tensor(i % 3)) for i in range(26)]
    task = Task(model=Pooled(), loss=nn.functional.cross_entropy, retain=samples, forget=samples, quality=make.quality)
    for batch_size in (1, 4):
        wanted = make.gradients(task, samples, batch_size)
        for most in (64, 1):
            found, _, _, numbers = rows_of(GradientEngine(task, most=most), Units(samples, batch_size))
            assert numbers == list(range(len(wanted)))
            assert relative(found, wanted) < 1e-5


def test_parameters_that_the_loss_does_not_reach_have_zero_gradients(make):
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(5, 3), nn.Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    task = make.perceptron(model=Partly())
    for most in (64, 1):
        found = rows_of(GradientEngine(task, most=most), Units(task.forget))[0]
        assert not found[:, 18:].any()
        assert relative(found, make.gradients(task, task.forget)) < 1e-5
    nothing = make.perceptron(loss=lambda output, target: target.float().mean())
    assert not rows_of(GradientEngine(nothing), Units(nothing.forget))[0].any()


def test_a_model_that_cannot_be_vectorised_is_looped(make):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            return self.layer(x) if x.sum().item() > 0 else self.layer(-x)

    task = make.perceptron(model=Branching())
    engine = GradientEngine(task)
    assert relative(rows_of(engine, Units(task.retain))[0], make.gradients(task, task.retain)) < 1e-5
    assert "vmap" in engine.failure


@pytest.mark.parametrize("error", [KeyError, ValueError, ZeroDivisionError])
def test_an_error_of_the_loss_comes_through_as_it_is(make, error):
    calls = []

    def loss(output, target):
        calls.append(output)
        if len(calls) == 2:  # the first pass of many units
            raise error("the user's own words")
        return nn.functional.cross_entropy(output, target)

    with pytest.raises(error, match="the user's own words"):
        list(GradientEngine(make.perceptron(loss=loss)).stream(Units(make.samples(20, 0))))


def test_a_runtime_error_of_the_loss_comes_through_too(make):
    """torch says by RuntimeErrors what it cannot vectorise; one that is the task's own is met again by the loop."""

    def loss(output, target):
        if target.max() == 2 if not torch._C._functorch.is_batchedtensor(target) else True:
            raise RuntimeError("the user's own words")
        return nn.functional.cross_entropy(output, target)

    with pytest.raises(RuntimeError, match="the user's own words"):
        list(GradientEngine(make.perceptron(loss=loss)).stream(Units(make.samples(20, 0))))


def test_chunks_keep_to_the_workspace(make):
    task = make.perceptron(retain=64)
    engine = GradientEngine(task, workspace=25_000.0)
    largest = max(len(block.rows) for block in engine.stream(Units(task.retain)))
    (saved,) = engine._saved.values()
    assert 1 < largest <= 25_000 / (3.2 * saved + 10 * engine.layout.parameters) < 64
    tight = GradientEngine(task, workspace=100.0)
    assert all(len(block.rows) == 1 for block in tight.stream(Units(task.retain)))
    assert len(tight.warnings) == 1 and "memory budget" in tight.warnings[0]


def test_the_model_is_left_as_it_was(make, varnet_task):
    for task in (make.perceptron(), varnet_task):
        before = {name: value.clone() for name, value in task.model.state_dict().items()}
        list(GradientEngine(task).stream(Units(task.forget)))
        assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
        assert all(p.grad is None and not p.requires_grad for p in task.model.parameters())
        assert not any(module._forward_hooks for module in task.model.modules())


def test_embeddings_are_the_penultimate_activations(make):
    task = make.perceptron()
    x = torch.stack([inputs for inputs, _ in task.forget])
    wanted = task.model[1](task.model[0](x)).numpy()
    for most in (64, 1):
        found = rows_of(GradientEngine(task, most=most), Units(task.forget))[2]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert rows_of(GradientEngine(make.complex()), Units(make.complex().forget))[2] is None


def test_embeddings_of_a_varnet_come_from_its_last_bottleneck(varnet_task):
    engine = GradientEngine(varnet_task)
    assert engine.bottleneck.name == "net.cascades.1.model.unet.conv"
    assert rows_of(engine, Units(varnet_task.forget))[2].shape == (6, 3 * 2**2)


@pytest.mark.parametrize("most", [64, 1])
def test_a_gradient_that_is_not_finite_names_its_sample(make, most):
    samples = make.samples(9, 5)
    samples[6][0][2] = float("nan")
    task = make.perceptron(forget=2)
    with pytest.raises(DataError, match="forget sample 6 is not finite"):
        gather(GradientEngine(task, most=most), Units(samples), evenly_spaced(9, 9), ROOMY, True, "forget", silent)


def test_a_loss_that_is_not_one_number_is_refused(make):
    task = make.perceptron(loss=lambda output, target: nn.functional.cross_entropy(output, target, reduction="none"))
    with pytest.raises(ModelError, match="not one number"):
        list(GradientEngine(task).stream(Units(task.forget, 3)))


@pytest.mark.parametrize("number", [1, 3, 4, 15, 16, 63, 64, 65, 80, 113])
def test_small_units_go_many_at_once(make, number):
    task = make.perceptron(retain=number)
    sizes = [len(block.numbers) for block in GradientEngine(task).stream(Units(task.retain))]
    assert sum(sizes) == number and max(sizes) <= 64
    assert min(sizes) >= 16 or sizes == ([number] if number >= 4 else [1] * number)


def test_large_units_go_one_by_one(make):
    task = make.perceptron(hidden=100_000)
    assert [len(block.numbers) for block in GradientEngine(task).stream(Units(task.retain))] == [1] * 14


@pytest.mark.parametrize("number", [4, 15, 17, 80])
def test_never_fewer_go_together_than_fill_a_vector(make, number, monkeypatch):
    counts = []
    monkeypatch.setattr(gradients, "stack", lambda units: counts.append(len(units)) or stack(units))
    task = make.perceptron(retain=number)
    list(GradientEngine(task).stream(Units(task.retain)))
    assert counts and min(counts) >= 16


def test_a_gradient_is_the_same_whichever_others_go_with_it(make):
    """In float32, where an activation that rounding takes across a bend changes a gradient by far more."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 3)]
    model = nn.Sequential(*layers, nn.InstanceNorm2d(3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(3 * 12**2, 3))
    samples = [(torch.randn(1, 16, 16), torch.tensor(i % 3)) for i in range(40)]
    task = make.perceptron(model=model, retain=samples)
    whole, losses, embeddings, _ = rows_of(GradientEngine(task), Units(samples))
    for ends in ((0, 5, 24, 40), (0, 20, 40), (0, 17, 36, 40)):
        parts = [rows_of(GradientEngine(task), Units(samples[a:b])) for a, b in pairwise(ends)]
        for number, wanted in enumerate((whole, losses, embeddings)):
            found = np.concatenate([part[number] for part in parts])
            np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


def test_gradients_are_taken_in_full_precision(make):
    seen = []

    def loss(output, target):
        matmul = torch.backends.cuda.matmul
        seen.append(matmul.fp32_precision if hasattr(matmul, "fp32_precision") else matmul.allow_tf32)
        return nn.functional.cross_entropy(output, target)

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        list(GradientEngine(make.perceptron(loss=loss)).stream(Units(make.samples(9, 0))))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) <= {"ieee", False} and seen
