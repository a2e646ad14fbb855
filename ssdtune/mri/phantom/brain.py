"""A family of brain-like heads, axial slices: every subject another head, its slices consistent with each other.

Sizes are those of adult heads in mm; what differs from subject to subject is drawn once, in the order of the code.
"""

from __future__ import annotations

import numpy as np

from ssdtune.mri.phantom.shapes import Grid, Maps, Painter, Slice, SmoothField, blend, ellipse, segment

EXTENT = (226.0, 188.0)
"""Height and width that hold every head of the family."""

LEVELS = (-14.0, 46.0)
"""Lowest and highest slice: from the basal ganglia to the centrum semiovale; the lateral ventricles are around 0."""


def brain(rng: np.random.Generator) -> Slice:
    """Draw one subject; the result makes the tissue maps of any of its slices."""
    half_width, half_length = rng.normal(72, 2.5), rng.normal(91, 3)
    fat, skull, gap = rng.uniform(2.5, 5), rng.uniform(5, 7.5), rng.uniform(1, 2.5)
    cortex, sulcus_width, sulcus_depth = rng.uniform(2.6, 3.6), rng.uniform(0.4, 1.0), rng.uniform(15, 22)
    ventricle = rng.uniform(0.7, 1.15)
    tilt, shift = rng.normal(0, 0.05), rng.normal(0, 3, 2)
    bend_x, bend_y = SmoothField(rng, 130, flatness=2), SmoothField(rng, 130, flatness=2)
    wobble_x, wobble_y = SmoothField(rng, 28, flatness=2), SmoothField(rng, 28, flatness=2)
    sulci = SmoothField(rng, rng.uniform(16, 19), spread=0.15, flatness=1.8, terms=48)
    depth_field, thickness_field = SmoothField(rng, 45), SmoothField(rng, 60)

    def draw(grid: Grid) -> Maps:
        size = np.sqrt(1 - (max(grid.z + 10, 0) / 108) ** 2)
        x, y = _head_frame(grid, tilt, shift)
        x, y = x + 2 * bend_x(grid), y + 2 * bend_y(grid)
        painter = Painter((grid.y.size, grid.x.size), grid.pixel)
        head = ellipse(x, y, (0, 0), (half_width * size, half_length * size))
        # the forehead is narrower than the back of the head
        head = head + 5 * np.clip(-y / half_length, 0, 1) ** 2 * np.clip(np.abs(x) / half_width, 0, 1)
        bone = head + 2.2 + fat * (1 + 0.25 * thickness_field(grid))
        inner = bone + skull * (1 + 0.12 * thickness_field(grid))
        painter.paint("skin", head)
        painter.paint("fat", head + 2.2)
        painter.paint("bone", bone)
        painter.paint("marrow", np.abs(bone + 0.5 * skull) - 0.16 * skull, opacity=0.8)
        painter.paint("csf", inner)

        # cortex: everything within its thickness of the brain's surface, of a sulcus or of the midline fissure
        surface = inner + gap * (1 + 0.4 * depth_field(grid))
        reach = np.clip(sulcus_depth * (1 + 0.35 * depth_field(grid)), 3, 26)
        furrow = _groove(sulci.distance_to_zero(grid) - sulcus_width, -surface - reach)
        to_fluid = np.minimum(-surface, furrow)
        midline = np.abs(x + 0.7 * wobble_y(grid))
        to_fluid = np.minimum(to_fluid, _groove(midline - 0.8, _fissure_end(y, grid.z, half_length)))
        for side in (-1, 1):
            insula = segment(x + wobble_x(grid), y, (side * 70, -2), (side * 40, -12))
            insula = np.minimum(insula, segment(x + wobble_x(grid), y, (side * 40, -16), (side * 42, 10)))
            to_fluid = np.minimum(to_fluid, insula - 1.2 + max(grid.z - 12, 0))
        painter.paint("grey_matter", -to_fluid)
        painter.paint("white_matter", cortex * (1 + 0.1 * thickness_field(grid)) - to_fluid)

        wx, wy = x + 0.8 * wobble_x(grid), y + 0.8 * wobble_y(grid)
        _deep_structures(painter, wx, wy, grid.z, ventricle)
        # the superior sagittal sinus, between the layers of the falx at the back
        painter.paint("vein", ellipse(x, y, (0, half_length * size - fat - skull - 5), (3.2, 2.6)))
        return painter.maps

    return draw


def _head_frame(grid: Grid, tilt: float, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = grid.x - shift[0], grid.y - shift[1]
    return x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)


def _groove(across: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Distance to a groove: ``across`` from its walls (negative in it), ``beyond`` past its end (or < 0)."""
    return np.where(beyond < 0, across, np.hypot(np.maximum(across, 0), beyond))


def _fissure_end(y: np.ndarray, z: float, half_length: float) -> np.ndarray:
    """Distance into the bridge that the corpus callosum makes between the hemispheres; negative in the fissure.

    Below the top of the callosum the midline is closed between the ventricles' horns, above it is open throughout.
    """
    bridge = 0.42 * half_length * np.sqrt(max(1 - (max(z, 0) / 22) ** 2, 0)) if z < 22 else -half_length
    found: np.ndarray = bridge - np.abs(y + 2)
    return found


def _deep_structures(painter: Painter, x: np.ndarray, y: np.ndarray, z: float, ventricle: float) -> None:
    """Deep grey nuclei and ventricles; each is an ellipsoid, so it appears and vanishes smoothly along z."""

    def part(centre: tuple[float, float, float], axes: tuple[float, float, float], angle: float) -> np.ndarray:
        rest = 1 - ((z - centre[2]) / axes[2]) ** 2
        share = np.sqrt(max(rest, 0))
        return ellipse(x, y, centre[:2], (axes[0] * share, axes[1] * share), angle)

    for side in (-1, 1):
        painter.paint("deep_grey", part((side * 10, 9, -6), (7.5, 13, 17), -side * 0.35))
        painter.paint("deep_grey", part((side * 25, -5, -6), (6, 16, 17), -side * 0.3))
        painter.paint("deep_grey", part((side * 13.5, -19, 0), (5, 9, 20), -side * 0.25))
    v = ventricle
    for side in (-1, 1):
        frontal = part((side * 7.5 * v, -19, 2), (3.6 * v, 12 * v, 24), -side * 0.35)
        body = part((side * 8.5 * v, 3, 14), (4.2 * v, 22, 15), -side * 0.08)
        atrium = part((side * 22, 27, 2), (4.2 * v, 13 * v, 22), -side * 0.45)
        painter.paint("csf", blend(blend(frontal, body, 3), atrium, 2))
    painter.paint("csf", part((0, 6, -10), (1.6 * v, 13, 13), 0))
