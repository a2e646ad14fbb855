"""``i2i``, ``ct`` and ``msg``: one step, worked out by hand. Adam's first step is the rate in the gradient's sign."""

import torch
from torch import nn
from torch.nn.functional import mse_loss

from ssdtune.progress import silent
from ssdtune.task import Task
from ssdtune.unlearning.method import run
from ssdtune.unlearning.methods import choose_method

LR, SEED = 0.3, 5


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def task_of(model, inputs, targets):
    """Four retain and four forget samples, which one batch holds."""
    data = list(zip(inputs, targets, strict=True))
    quality = lambda output, target: torch.exp(-(output - target).flatten(1).square().mean(1))  # noqa: E731
    return Task(model, mse_loss, data[:4], data[4:], quality, floor=0.0)


def step_of(task, name, **knobs):
    """(result of one step, the unlearner, its rate)"""
    chosen = choose_method({"name": name, "batch_size": 4, "decay": False})
    unlearner = chosen.method.prepare(task, chosen.options, analyse=lambda: None, track=silent)
    found = run(unlearner, {"lr": LR, "steps": 1, **knobs}, SEED).params
    return found, unlearner, LR / sum(value.numel() for value in task.params.values()) ** 0.5


def test_i2i_moves_the_encoder_towards_what_it_makes_of_noise():
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
    x = drawn(8, 3)
    task = task_of(model, x, drawn(8, 1))
    found, unlearner, rate = step_of(task, "i2i", a_f=0.5)
    weight = task.params["0.weight"]
    (batch,) = unlearner.trainer.in_order("forget")
    (noise,) = unlearner.noise(batch)
    x_f = batch.inputs[0]
    # retain samples are encoded as before, which leaves mean (E(x_f) - E0(n))^2 / mean E0(n)^2
    apart = x_f @ weight.T - noise
    gradient = 2 / apart.numel() * apart.T @ x_f / noise.square().mean()
    torch.testing.assert_close(found["0.weight"], weight - rate * gradient.sign(), rtol=0, atol=1e-5)
    assert torch.equal(found["1.weight"], task.params["1.weight"])
    assert unlearner.preparation == 8


def sides(kernel, x, y):
    """Gradient of mse_loss(w * x, y) over a batch with regard to a kernel (1, 1, 2, 2) without padding."""
    patches = nn.functional.unfold(x, 2)  # (n, 4, places)
    apart = (kernel.flatten() @ patches) - y.flatten(1)
    return (2 * (apart[:, None] * patches).sum(-1).mean(0) / apart.shape[1]).view_as(kernel)


def convolution_task():
    x = drawn(8, 1, 4, 4)
    return task_of(nn.Conv2d(1, 1, 2, bias=False), x, drawn(8, 1, 3, 3)), x


def test_ct_steps_from_the_transposed_kernel():
    task, x = convolution_task()
    found, _, rate = step_of(task, "ct")
    start = task.params["weight"].transpose(-1, -2)
    gradient = sides(start, x[:4], torch.stack([target for _, target in task.retain]))
    torch.testing.assert_close(found["weight"], start - rate * gradient.sign(), rtol=0, atol=1e-5)


def test_msg_draws_the_smallest_gradients_anew_and_keeps_the_rest_to_a_tenth_of_a_step():
    task, x = convolution_task()
    found, unlearner, rate = step_of(task, "msg", init_rate=0.5)
    kernel = task.params["weight"]
    of = [torch.stack([target for _, target in samples]) for samples in (task.retain, task.forget)]
    apart = (sides(kernel, x[:4], of[0]) - sides(kernel, x[4:], of[1])).abs()
    torch.testing.assert_close(unlearner.size["weight"], apart, rtol=1e-4, atol=1e-5)
    anew = apart <= apart.flatten().sort().values[1]  # half of four
    start = unlearner.start({"init_rate": 0.5}, SEED)["weight"]
    assert torch.equal(start != kernel, anew)
    gradient = sides(start, x[:4], of[0])
    step = rate * torch.where(anew, 1.0, 0.1)
    torch.testing.assert_close(found["weight"], start - step * gradient.sign(), rtol=0, atol=1e-5)
    assert unlearner.preparation == 3 * 8
