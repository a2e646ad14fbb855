"""A family of knee-like joints, axial slices through femoral condyles and patella: every subject another knee.

Sizes are those of adult knees in mm; what differs from subject to subject is drawn once, in the order of the code. The
front (patella) is at the top; u = z / 20 runs from the joint line (-1) to the shaft of the femur (+1).
"""

from __future__ import annotations

import numpy as np

from ssdtune.mri.phantom.shapes import Grid, Maps, Painter, Slice, SmoothField, blend, ellipse, segment

EXTENT = (164.0, 150.0)
"""Height and width that hold every knee of the family."""

LEVELS = (-16.0, 18.0)
"""Lowest and highest slice: from above the joint line to the upper pole of the patella."""

# muscles at the back: (x, y), half axes, how the area grows towards the head; the inner side is at x < 0
MUSCLES: tuple[tuple[tuple[float, float], tuple[float, float], float], ...] = (
    ((-18, 41), (16, 13), -0.25),  # gastrocnemius, inner head
    ((17, 42), (15, 12), -0.25),  # gastrocnemius, outer head
    ((41, 27), (7.5, 13), 0.3),  # biceps femoris
    ((-37, 38), (7, 9), 0.35),  # semimembranosus
    ((-45, 20), (4, 12), 0.2),  # sartorius
    ((4, 54), (9, 4.5), -0.3),  # plantaris and fibres between the heads
)


def knee(rng: np.random.Generator) -> Slice:
    """Draw one subject; the result makes the tissue maps of any of its slices."""
    side = rng.choice([-1, 1])  # left or right knee
    bones, girth, fat = rng.normal(1, 0.05), rng.uniform(0.98, 1.12), rng.uniform(2, 10)
    cartilage, cortex, fluid = rng.uniform(2, 3.4), rng.uniform(0.9, 1.7), rng.uniform(0.2, 2.2)
    patella_x, patella_y = rng.normal(2, 2.5), rng.normal(-45, 1.5)
    notch, groove = rng.uniform(0.85, 1.2), rng.uniform(3.5, 6.5)
    bulk = rng.uniform(0.85, 1.15, len(MUSCLES))
    lean = rng.normal(0, 1.5, (len(MUSCLES), 2))
    tilt, shift = rng.normal(0, 0.12), rng.normal(0, 2.5, 2)
    vessels = rng.normal(0, 2, (3, 2))
    bend_x, bend_y = SmoothField(rng, 60, flatness=2), SmoothField(rng, 60, flatness=2)
    septa, fibres = SmoothField(rng, 17, spread=0.4, flatness=3), SmoothField(rng, 13, spread=0.4, flatness=5)

    def draw(grid: Grid) -> Maps:
        u = grid.z / 20
        x, y = (grid.x - shift[0]) * side, grid.y - shift[1]
        x, y = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
        x, y = x + 1.6 * bend_x(grid), y + 1.6 * bend_y(grid)
        painter = Painter((grid.y.size, grid.x.size), grid.pixel)

        leg = _outline(x, y, girth, u)
        painter.paint("skin", leg)
        painter.paint("fat", leg + 1.6)
        painter.paint("tendon", np.maximum(septa.distance_to_zero(grid) - 0.3, leg + 4), opacity=0.45)
        fascia = leg + 2.5 + fat * (0.6 + 0.4 * np.clip(y / 50, -0.6, 1))
        painter.paint("tendon", np.abs(fascia) - 0.4, opacity=0.7)
        for (centre, axes, growth), scale, offset in zip(MUSCLES, bulk, lean, strict=True):
            grown = scale * (1 + growth * u)
            belly = ellipse(x, y, (centre[0] + offset[0], centre[1] + offset[1]), (axes[0] * grown, axes[1] * grown))
            belly = np.maximum(belly, fascia + 1)
            painter.paint("muscle", belly)
            painter.paint("fat", np.maximum(fibres.distance_to_zero(grid) - 0.25, belly + 1), opacity=0.4)
        # the vasti reach down to the sides of the patella
        for at, angle in ((-34, -0.5), (33, 0.55)):
            painter.paint("muscle", np.maximum(ellipse(x, y, (at, -20), (6 + 5 * u, 15 + 6 * u), angle), fascia + 1))

        femur = _femur(x, y, bones, notch, groove, u)
        patella = np.maximum(_patella(x, y, patella_x, patella_y, bones, u), leg + 5)
        capsule = blend(femur, patella, 12)
        retinaculum = np.maximum(np.abs(capsule - cartilage - 1.5) - 0.7, np.maximum(y + 5, leg + 2.5))
        painter.paint("tendon", retinaculum, opacity=0.9)
        joint = np.maximum(y + 18, patella_y + 3 - y)
        painter.paint("fluid", np.maximum(capsule - 0.8 - fluid, joint))
        lined = np.minimum(y + 22, 14 - y + np.abs(np.abs(x) - 24))  # trochlea, and the back of the condyles
        painter.paint("cartilage", np.maximum(femur - cartilage, lined))
        painter.paint("cartilage", np.maximum(patella - cartilage, patella_y + 2 - y))
        _notch(painter, x, y, u)
        for bone in (femur, patella):
            painter.paint("bone", bone)
            painter.paint("marrow", bone + cortex)
        # collateral ligaments
        painter.paint("tendon", segment(x, y, (-46 * bones, -8), (-44 * bones, 14)) - 1.3)
        painter.paint("tendon", segment(x, y, (45 * bones, -4), (43 * bones, 12)) - 1.2)
        # popliteal artery (flow void), vein and tibial nerve, and a small vein under the skin
        painter.paint("artery", ellipse(x, y, (3 + vessels[0, 0], 33 + vessels[0, 1]), (3, 3)))
        painter.paint("vein", ellipse(x, y, (7 + vessels[0, 0], 38 + vessels[0, 1]), (3.6, 3)))
        painter.paint("grey_matter", ellipse(x, y, (9 + vessels[1, 0], 47 + vessels[1, 1]), (2.6, 2)))
        painter.paint("vein", np.maximum(ellipse(x, y, (-46 + vessels[2, 0], 32 + vessels[2, 1]), (1.5, 1.5)), leg + 3))
        return painter.maps

    return draw


def _outline(x: np.ndarray, y: np.ndarray, girth: float, u: float) -> np.ndarray:
    """The skin: round behind, narrowing to the patella in front."""
    narrowing = 1 - 0.42 * np.clip(-(y + 12) / 52, 0, 1) ** 1.5
    shape = ellipse(x / narrowing, y, (0, 2), (57 * girth * (1 + 0.03 * u), 66 * girth))
    return shape * (0.5 + 0.5 * narrowing)


def _femur(x: np.ndarray, y: np.ndarray, bones: float, notch: float, groove: float, u: float) -> np.ndarray:
    """Two condyles joined in front, with the trochlear groove before and the intercondylar notch behind."""
    flare = bones * (1 - 0.14 * max(u, 0) - 0.05 * u)
    inner = ellipse(x, y, (-22 * flare, 3), (20 * flare, 29 * flare), 0.18)
    outer = ellipse(x, y, (22 * flare, 1), (19.5 * flare, 29 * flare), -0.15)
    front = ellipse(x, y, (0, -9), (30 * flare, 17 * flare))
    femur = blend(blend(inner, outer, 5), front, 8)
    deep = 17 * notch * (1 - 0.5 * u)
    behind = ellipse(x, y, (0, 33), (9 * notch * (1 - 0.25 * u), deep))
    before = ellipse(x, y, (2, -31 - groove), (17, 11.5), 0.1)
    found: np.ndarray = np.maximum(femur, np.maximum(-behind, -before))
    return found


def _patella(x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, bones: float, u: float) -> np.ndarray:
    """A lens with a ridge behind that fits the trochlear groove; smaller towards its poles."""
    size = bones * np.sqrt(max(1 - ((u - 0.1) / 1.35) ** 2, 0.05))
    ridge = np.maximum(0, 1 - np.abs(x - at_x) / (20 * size)) * 5 * size
    return ellipse(
        x, np.where(y > at_y, y - ridge * np.clip((y - at_y) / 8, 0, 1), y), (at_x, at_y), (21 * size, 9 * size)
    )


def _notch(painter: Painter, x: np.ndarray, y: np.ndarray, u: float) -> None:
    """Cruciate ligaments in the notch: bands that cross as the level changes."""
    painter.paint("tendon", segment(x, y, (6 + 2 * u, 18), (2 - 2 * u, 27)) - 2)
    painter.paint("tendon", segment(x, y, (-6 - 2 * u, 20), (-3 + 2 * u, 29)) - 2.4)
