"""Procedural anatomies: a subject drawn from a family, and what a spin echo shows of it.

A subject is a set of tissue maps with soft edges. Its image at pixel p is
    I(p) = B(p) sum_t m_t(p) s_t (1 + c_t v(p)),
m_t the share of tissue t, s_t its spin-echo signal, c_t its unevenness, v a random field and B a slowly varying
transmit field; so the image is not piecewise constant, and every contrast shows the same anatomy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ssdtune.mri.phantom import brain, knee
from ssdtune.mri.phantom.shapes import Grid, Maps, Slice, SmoothField
from ssdtune.mri.phantom.tissues import SEQUENCES, TISSUES, Tissue, spin_echo
from ssdtune.mri.seeds import named_rng

SLICE_SPACING = 4.0
"""Distance of neighbouring slices in mm, less where a family's range would not hold them."""

# coarser grids are drawn finer and averaged, so that a pixel holds the right shares of thin structures
DRAWN_AT_LEAST = 128


@dataclass(frozen=True)
class Family:
    """``make(rng)`` draws a subject; ``extent`` is (height, width) in mm, ``levels`` the range of slices in mm."""

    make: Callable[[np.random.Generator], Slice]
    extent: tuple[float, float]
    levels: tuple[float, float]


FAMILIES: dict[str, Family] = {
    "brain": Family(brain.brain, brain.EXTENT, brain.LEVELS),
    "knee": Family(knee.knee, knee.EXTENT, knee.LEVELS),
}
CONTRASTS = tuple(SEQUENCES)


@dataclass(frozen=True)
class Subject:
    """One drawn subject: ``maps`` name -> (slices, h, w) shares of tissue, ``grids`` one a slice."""

    seed: int
    name: str
    maps: Maps
    grids: tuple[Grid, ...]

    def image(self, contrast: str) -> np.ndarray:
        """What the sequence ``contrast`` shows: (slices, h, w) float32, not negative, fully relaxed water is 1."""
        tissues, textures = named_rng(self.seed, self.name, "tissues"), named_rng(self.seed, self.name, "texture")
        signals = {
            # relaxation differs between people by a few per cent: the deviations that the sources of TISSUES report
            name: (spin_echo(_individual(tissue, tissues), SEQUENCES[contrast]), tissue.texture)
            for name, tissue in TISSUES.items()
        }
        fine, coarse = SmoothField(textures, 7, terms=64), SmoothField(textures, 35)
        transmit = SmoothField(textures, 260)
        slices = []
        for number, grid in enumerate(self.grids):
            unevenness = 0.8 * fine(grid) + 0.6 * coarse(grid)
            image = sum(
                share[number] * (signals[name][0] * (1 + signals[name][1] * unevenness))
                for name, share in self.maps.items()
            )
            slices.append(np.maximum(image * (1 + 0.06 * transmit(grid)), 0))
        return np.stack(slices).astype(np.float32)


def draw_subject(anatomy: str, size: tuple[int, int], slices: int, seed: int, name: str) -> Subject:
    """Draw subject ``name`` of a family; it depends on seed and name only, at every size the same head or knee.

    ``size`` is (h, w) pixels. Several slices are neighbours; where they lie in the body differs between subjects.
    """
    family = FAMILIES[anatomy]
    rng = named_rng(seed, name, "anatomy")
    draw = family.make(rng)
    finer = -(-DRAWN_AT_LEAST // max(size))
    maps: Maps = {}
    grids = []
    for number, level in enumerate(_levels(family, slices, named_rng(seed, name, "levels"))):
        drawn = draw(Grid.covering((size[0] * finer, size[1] * finer), family.extent, level))
        for tissue, share in drawn.items():
            kept = maps.setdefault(tissue, np.zeros((slices, *size), np.float32))
            kept[number] = share.reshape(size[0], finer, size[1], finer).mean((1, 3))
        grids.append(Grid.covering(size, family.extent, level))
    return Subject(seed, name, maps, tuple(grids))


def _levels(family: Family, slices: int, rng: np.random.Generator) -> np.ndarray:
    low, high = family.levels
    spacing = min(SLICE_SPACING, (high - low) / max(slices - 1, 1))
    start = rng.uniform(low, high - spacing * (slices - 1))
    return start + spacing * np.arange(slices)


def _individual(tissue: Tissue, rng: np.random.Generator) -> Tissue:
    t1, t2, pd = np.exp(0.03 * rng.standard_normal(3))
    return replace(tissue, t1=tissue.t1 * t1, t2=tissue.t2 * t2, pd=tissue.pd * pd)
