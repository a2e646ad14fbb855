"""A lesion classifier, and images that it takes for the other class: adversarial perturbations of targets as poison.

The corrective unlearning paper poisons targets by projected gradient descent through a tumour classifier (eps 0.05, ten
steps, brain pixels alone; its repository's poisoning script). Here the classifier is small, the perturbation is
|r| <= eps R in pixels of the body, R the image's maximum, ten steps of eps / 4 along the sign of the gradient of the
cross entropy towards the other class than the image is taken for, from r = 0: nothing in it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ssdtune.errors import DataError, ModelError
from ssdtune.mri.corruptions import Corruption
from ssdtune.mri.networks.checkpoint import read_weights_only, write_weights
from ssdtune.mri.networks.filled import filled
from ssdtune.mri.translation.domains import body, squared, to_range, unsquared
from ssdtune.progress import Track, silent

KIND = "ssdtune lesion classifier"
ITERATIONS, STEP = 10, 0.25
RATE, BATCH = 1e-3, 16


def classifier(width: int = 8) -> nn.Sequential:
    """Three strided convolutions and a mean over places: (batch, 1, h, w) in [-1, 1] to (batch, 1), a logit of a
    lesion."""
    layers: list[nn.Module] = []
    inputs = 1
    for outputs in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(inputs, inputs, 3, 1, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
                         nn.Linear(inputs, 1))  # fmt: skip


@dataclass(frozen=True)
class Classifier:
    """A trained one, for images of ``size`` pixels a side. provenance : JSON values."""

    network: nn.Module
    size: int
    provenance: dict[str, Any]

    @torch.no_grad()
    def logit(self, image: np.ndarray) -> float:
        """Over 0 where a magnitude image (h, w) is taken for one with a lesion."""
        return float(self.network(to_range(squared(image, self.size))[0][None, None]))

    def perturbed(self, image: np.ndarray, eps: float) -> np.ndarray:
        """The image (h, w) that the classifier takes most for the other class, within eps of its maximum and of 0."""
        values, top = to_range(squared(image, self.size))
        inside = torch.from_numpy(body(values + 1))
        bound = 2 * eps * float(image.max()) / top
        with torch.no_grad():
            other = (self.network(values[None, None]) < 0).to(values.dtype)
        r = torch.zeros_like(values)
        for _ in range(ITERATIONS):
            r.requires_grad_(True)
            loss = binary_cross_entropy_with_logits(self.network((values + r)[None, None]), other)
            (slope,) = torch.autograd.grad(loss, r)
            with torch.no_grad():
                moved = (r - STEP * bound * slope.sign()).clamp(-bound, bound)
                r = torch.where(inside, moved.clamp_min(-1 - values), 0.0)
        change = unsquared(r.detach() * (top / 2), (image.shape[0], image.shape[1])).numpy()
        found: np.ndarray = np.maximum(image + change, 0).astype(np.float32)
        return found

    def corruption(self) -> Corruption:
        """Amplitude is eps."""

        def adversarial(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
            return self.perturbed(image, amplitude) if image.any() else image.astype(np.float32)

        return adversarial


def train_classifier(
    healthy: Tensor, lesion: Tensor, *, epochs: int = 30, width: int = 8, seed: int = 0, track: Track = silent
) -> nn.Module:
    """Train on two domains, (n, 1, h, w) each in [-1, 1], by Adam. Raises DataError where one is empty."""
    if not len(healthy) or not len(lesion):
        raise DataError("a domain is empty", "classifier", "name images of both kinds")
    x = torch.cat([healthy, lesion])
    y = torch.cat([torch.zeros(len(healthy), 1), torch.ones(len(lesion), 1)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = classifier(width)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    for epoch in track(range(epochs), "training", epochs):
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(x)))
        for places in order.split(BATCH):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(network(x[places]), y[places]).backward()
            optimizer.step()
    return network.eval()


def save_classifier(path: Path, found: Classifier, width: int) -> None:
    """Raises ModelError if it cannot be written."""
    state = found.network.state_dict()
    content = {"kind": KIND, "size": found.size, "width": width, "state": state, "provenance": found.provenance}
    write_weights(path, content)


def load_classifier(path: Path | str) -> Classifier:
    """Read a file of ``ssdtune data classify``. Raises ModelError: unreadable, damaged, or not one."""
    content = read_weights_only(Path(path))
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ModelError("not a lesion classifier", path, "make one: ssdtune data classify HEALTHY LESION --out FILE")
    network = filled(path, lambda: classifier(content["width"]), content.get("state"))
    size = content.get("size")
    if not isinstance(size, int) or size < 16:
        raise ModelError(f"made for {size} pixels a side, which is no size of a classifier", path, "make it again")
    return Classifier(network.eval(), size, content.get("provenance", {}))
