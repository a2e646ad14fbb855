"""A trained translator as a file, as a corruption, and what it does to images that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor, nn

from ssdtune.errors import ModelError
from ssdtune.mri.corruptions import Corruption
from ssdtune.mri.networks.checkpoint import read_weights_only, write_weights
from ssdtune.mri.networks.filled import filled
from ssdtune.mri.translation.domains import body, squared, to_range, unsquared
from ssdtune.mri.translation.networks import Generator

KIND = "ssdtune translator"
# pixels around a lesion that count as neither inside nor outside: its soft edge
EDGE = 2
# the least contrast of a lesion, over the 95 % quantile of the body
LEAST_CONTRAST = 0.2


@dataclass(frozen=True)
class Translator:
    """The generator healthy -> lesion, for images of ``size`` pixels a side. provenance : JSON values."""

    network: nn.Module
    size: int
    provenance: dict[str, Any]

    @torch.no_grad()
    def change(self, image: np.ndarray) -> np.ndarray:
        """What the translation adds to a magnitude image (h, w), in its grey values; images of other sizes than the
        translator's are translated in its size, and the change is brought to theirs."""
        small = squared(image, self.size)
        values, top = to_range(small)
        added = (self.network(values[None, None])[0, 0] - values) * (top / 2)
        found: np.ndarray = unsquared(added, (image.shape[0], image.shape[1])).numpy()
        return found

    def corruption(self) -> Corruption:
        """I' = max(I + A (G(I) - I), 0): amplitude 1 is the translation. Nothing in it is drawn."""

        def cyclegan(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
            if not image.any():
                return image.astype(np.float32)
            return np.maximum(image + amplitude * self.change(image), 0).astype(np.float32)

        return cyclegan


@dataclass(frozen=True)
class Check:
    """What a translator does to healthy images, the check of Zhu et al.'s kind of poison: lesions in, the rest kept.

    contrast : mean change inside the lesions over the 95 % quantile of the body, mean over images with a lesion.
    outside_nmse : sum of the squared change outside of lesions and their edge over that of the image there.
    lesioned : share of the images that got a lesion. images : how many there were.
    """

    contrast: float
    outside_nmse: float
    lesioned: float
    images: int


def check(before: np.ndarray, after: np.ndarray) -> Check:
    """Compare images (n, h, w) with what they became. A lesion is where a change is over half of its largest, if the
    mean there is at least ``LEAST_CONTRAST`` of the body's 95 % quantile."""
    contrasts, changed, kept = [], 0.0, 0.0
    for image, other in zip(before, after, strict=True):
        change = other - image
        inside = change > 0.5 * change.max()
        level = float(np.quantile(image[body(image)], 0.95))
        contrast = float(change[inside].mean()) / level if inside.any() else 0.0
        outside = np.ones_like(inside)
        if contrast >= LEAST_CONTRAST:
            contrasts.append(contrast)
            outside = ~binary_dilation(inside, iterations=EDGE)
        changed += float(np.square(change[outside]).sum())
        kept += float(np.square(image[outside]).sum())
    mean = float(np.mean(contrasts)) if contrasts else 0.0
    return Check(mean, changed / kept, len(contrasts) / len(before), len(before))


def save_translator(
    path: Path, network: nn.Module, size: int, sizes: dict[str, int], provenance: dict[str, Any]
) -> None:
    """Write the generator; raises ModelError if it cannot be written. size : of its images, in pixels.
    sizes : of ``Generator``."""
    state: dict[str, Tensor] = network.state_dict()
    write_weights(path, {"kind": KIND, "size": size, "sizes": sizes, "state": state, "provenance": provenance})


def load_translator(path: Path | str) -> Translator:
    """Read a file of ``ssdtune data translate``. Raises ModelError: unreadable, damaged, or not one."""
    content = read_weights_only(Path(path))
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ModelError("not a translator", path, "make one: ssdtune data translate HEALTHY LESION --out FILE")
    network = filled(path, lambda: Generator(**content["sizes"]), content.get("state"))
    size = content.get("size")
    if not isinstance(size, int) or size < 32 or size % 4:
        raise ModelError(f"made for {size} pixels a side, which is no size of a translator", path, "make it again")
    return Translator(network.eval(), size, content.get("provenance", {}))
