"""Small tasks whose gradients take no time: a perceptron, and a reconstruction with complex arithmetic."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ssdtune.task import Task


class ComplexFilter(nn.Module):
    """Learned filter in k-space of a complex image, through the FFT; magnitude out."""

    def __init__(self, size=6):
        super().__init__()
        self.real, self.imaginary = nn.Parameter(torch.randn(size, size)), nn.Parameter(torch.randn(size, size))
        self.mix = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image):
        kspace = torch.fft.fft2(torch.complex(image, self.mix(image[:, None])[:, 0]))
        return torch.fft.ifft2(kspace * torch.complex(self.real, self.imaginary)).abs()


def quality(output, target):
    return (output.argmax(-1) == target).float()


def perceptron_samples(n, seed, inputs=5, classes=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, inputs, generator=generator)
    return [(x[i], torch.tensor(i % classes)) for i in range(n)]


def make_perceptron_task(retain=14, forget=9, hidden=4, scale=1.0, **settings):
    """``retain`` and ``forget`` are samples or their number; ``scale`` multiplies the loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, 3))

    def loss(output, target):
        return scale * nn.functional.cross_entropy(output, target)

    parts = {"model": model, "loss": loss, "quality": quality}
    sizes = {"retain": (retain, 1), "forget": (forget, 2)}
    sets = {name: perceptron_samples(n, seed) if isinstance(n, int) else n for name, (n, seed) in sizes.items()}
    return Task(**parts | sets | settings)


def make_complex_task(retain=7, forget=5):
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(2)

    def samples(n):
        return [(torch.randn(6, 6, generator=generator), torch.rand(6, 6, generator=generator)) for _ in range(n)]

    def loss(output, target):
        return (output - target).square().mean()

    return Task(
        model=ComplexFilter(),
        loss=loss,
        retain=samples(retain),
        forget=samples(forget),
        quality=lambda output, target: 1 - (output - target).abs().mean((-2, -1)),
    )


def literal_gradients(task, samples, batch_size=1):
    """(units, P) float64 gradients of the mean loss, by plain autograd, one unit after the other."""
    model, rows = task.model, []
    params = {name: value.clone().requires_grad_() for name, value in task.params.items()}
    for start in range(0, len(samples), batch_size):
        items = [samples[index] for index in range(start, min(start + batch_size, len(samples)))]
        losses = []
        for inputs, target in items:
            inputs = tuple(value[None] for value in (inputs if isinstance(inputs, tuple) else (inputs,)))
            losses.append(task.loss(torch.func.functional_call(model, params, inputs), stacked(target)))
        grads = torch.autograd.grad(sum(losses) / len(losses), list(params.values()), allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(params.values(), grads, strict=True)]
        rows.append(torch.cat([part.reshape(-1) for part in flat]).double())
    return torch.stack(rows).numpy()


def stacked(target):
    return {name: value[None] for name, value in target.items()} if isinstance(target, dict) else target[None]


@pytest.fixture(scope="session")
def make():
    """``make.perceptron(...)`` and ``make.complex(...)`` tasks; ``make.gradients(task, samples)`` the plain way."""
    return SimpleNamespace(
        perceptron=make_perceptron_task,
        samples=perceptron_samples,
        complex=make_complex_task,
        gradients=literal_gradients,
        quality=quality,
    )


@pytest.fixture(scope="session")
def varnet_task():
    """A small fastMRI VarNet in float64, where vectorised and looped gradients differ by rounding alone."""
    from ssdtune.mri.networks.stock import VarNetSizes
    from ssdtune.mri.quality import training_loss

    torch.manual_seed(3)
    model = VarNetSizes(cascades=2, channels=3, pools=2, sens_channels=2, sens_pools=2).reconstructor().double()

    def samples(n, seed):
        generator = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(n):
            acs = torch.zeros(1, 1, 32, 1, dtype=torch.bool)
            acs[:, :, 12:20] = True
            mask = acs.clone()
            mask[:, :, ::4] = True
            smooth = torch.randn(3, 4, 4, 2, generator=generator, dtype=torch.float64)
            image = nn.functional.interpolate(smooth.permute(0, 3, 1, 2), size=(32, 32), mode="bicubic")
            kspace = torch.fft.fftshift(torch.fft.fft2(torch.complex(image[:, 0], image[:, 1]), norm="ortho"))
            kspace = torch.view_as_real(kspace.contiguous())
            target = image.square().sum((0, 1)).sqrt()
            found.append(((kspace * mask, mask, acs), {"image": target, "max": target.max()}))
        return found

    return Task(
        model=model,
        loss=training_loss,
        retain=samples(5, 0),
        forget=samples(6, 1),
        quality=lambda output, target: output.mean((-2, -1)),
    )
