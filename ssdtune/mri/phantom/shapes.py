"""What anatomies are drawn with: a grid in mm, signed distances, smooth random fields, and a painter.

Notation: x to the right, y downwards (towards the back), z towards the head, in mm from the centre of the image; d
signed distance to a shape's edge in mm, negative inside. Distances are approximate away from the edge. All are (h, w),
float32 or as x and y are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Maps = dict[str, np.ndarray]
"""Tissue name -> share of each pixel that is this tissue, (h, w) in [0, 1]."""

Slice = Callable[["Grid"], Maps]
"""Draws one subject's slice at the grid's z."""


@dataclass(frozen=True)
class Grid:
    """Pixel centres of one slice: x (1, w), y (h, 1), level z and pixel side, in mm."""

    x: np.ndarray
    y: np.ndarray
    z: float
    pixel: float

    @classmethod
    def covering(cls, size: tuple[int, int], extent: tuple[float, float], z: float) -> Grid:
        """Square pixels, ``size`` of them, that cover at least ``extent`` mm (height, width)."""
        h, w = size
        pixel = max(extent[0] / h, extent[1] / w)
        x = (np.arange(w, dtype=np.float32) - (w - 1) / 2)[None] * pixel
        y = (np.arange(h, dtype=np.float32) - (h - 1) / 2)[:, None] * pixel
        return cls(x.astype(np.float32), y.astype(np.float32), z, pixel)


class SmoothField:
    """A random function of (x, y, z), zero mean, unit variance, with features of about ``wavelength`` mm.

    A sum of plane waves with random directions and phases, so it is the same function at every resolution and changes
    smoothly from slice to slice. ``spread`` is the relative spread of the wavelengths; ``flatness`` > 1 makes the
    features longer along z.
    """

    def __init__(
        self, rng: np.random.Generator, wavelength: float, spread: float = 0.3, flatness: float = 1.0, terms: int = 32
    ) -> None:
        direction = rng.standard_normal((3, terms))
        direction /= np.linalg.norm(direction, axis=0)
        direction[2] /= flatness
        length = wavelength * np.exp(spread * rng.standard_normal(terms))
        self._k = 2 * np.pi * direction / length
        self._phase = rng.uniform(0, 2 * np.pi, terms)

    def __call__(self, grid: Grid) -> np.ndarray:
        """Values (h, w), float32."""
        along_x, along_y = self._waves(grid)
        found: np.ndarray = (along_y @ along_x).real
        return found

    def distance_to_zero(self, grid: Grid) -> np.ndarray:
        """First-order distance |g| / |grad g| to the nearest zero of the field, mm, (h, w): thin winding curves."""
        along_x, along_y = self._waves(grid)
        kx, ky = (1j * k.astype(np.float32) for k in self._k[:2])
        value = (along_y @ along_x).real
        slope = np.hypot((along_y @ (kx[:, None] * along_x)).real, ((along_y * ky) @ along_x).real)
        found: np.ndarray = np.abs(value) / np.maximum(slope, 1e-6)
        return found

    def _waves(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        # a plane wave is a product of one along each axis, so a slice of K waves is a matrix product (h, K) @ (K, w);
        # a pixel shows its mean, which fades short waves (sin(u) / u with u = k pixel / 2, to second order)
        kx, ky, kz = self._k
        fade = np.exp(-(kx**2 + ky**2) * grid.pixel**2 / 24)
        amplitude = np.sqrt(2 / kx.size) * fade * np.exp(1j * (kz * grid.z + self._phase))
        along_x = np.exp(1j * kx[:, None] * grid.x) * amplitude[:, None]
        along_y = np.exp(1j * grid.y * ky[None])
        return along_x.astype(np.complex64), along_y.astype(np.complex64)


class Painter:
    """Layers tissues over each other, the last on top; edges are as soft as a pixel is wide."""

    def __init__(self, shape: tuple[int, int], pixel: float) -> None:
        self.maps: Maps = {}
        self._shape, self._pixel = shape, pixel

    def paint(self, tissue: str, distance: np.ndarray, opacity: float = 1.0) -> None:
        """Fill where ``distance`` < 0, mixing with what lies below where the edge crosses a pixel."""
        cover = opacity * np.clip(0.5 - distance / self._pixel, 0, 1)
        for values in self.maps.values():
            values *= 1 - cover
        self.maps.setdefault(tissue, np.zeros(self._shape, np.float32))
        self.maps[tissue] += cover


def turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in a frame turned by ``angle`` (radians)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def ellipse(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], angle: float = 0.0
) -> np.ndarray:
    """Distance to an ellipse with half axes ``axes``; empty (far away) if an axis is not positive."""
    if min(axes) <= 0:
        return np.full(np.broadcast_shapes(x.shape, y.shape), 1e3, np.float32)
    u, v = turned(x - centre[0], y - centre[1], angle)
    level = np.hypot(u / axes[0], v / axes[1])
    slope = np.hypot(u / axes[0] ** 2, v / axes[1] ** 2)
    # first order: (level - 1) / |grad level|, |grad level| = slope / level; the centre is as deep as the short axis
    return np.where(level > 1e-3, (level - 1) * level / np.maximum(slope, 1e-6), -min(axes)).astype(np.float32)


def segment(x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Distance to a line segment, never negative."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


def blend(first: np.ndarray, second: np.ndarray, radius: float) -> np.ndarray:
    """Union of two shapes with a fillet of about ``radius`` mm (polynomial smooth minimum)."""
    share = np.clip(0.5 + (second - first) / (2 * radius), 0, 1)
    found: np.ndarray = second + (first - second) * share - radius * share * (1 - share)
    return found
