"""ResponseSurface: what the mapper says of one task, an ensemble of surfaces over the (rho, kappa) plane.

Notation: rho selected fraction, kappa = lambda / alpha depth, u = (log10 rho, log10 kappa); R, K grid nodes along
each; M ensemble members; outputs in the order (retained, remembered). (alpha, lambda > alpha) is the same dampening as
(lambda, lambda), so every setting has one canonical form with kappa <= 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError
from ssdtune.plane.bilinear import Cell, cell, interpolate
from ssdtune.plane.course import Course
from ssdtune.plane.packing import pack, unpack
from ssdtune.plane.settings import canonical

_SHAPES = {
    "log_rho": "R",
    "log_kappa": "K",
    "log_alpha": "R",
    "retained": "MRK",
    "remembered": "MRK",
    "residual_sd": "2RK",
    "length_scales": "22",
    "log_damage": "RK",
}


@dataclass(frozen=True, eq=False)
class ResponseSurface:
    """Predicted response of one task over the plane of SSD settings, with its uncertainty.

    log_rho : (R,) rising, log10 of the selected fraction. Its first node should select next to nothing.
    log_kappa : (K,) rising, log10 of the depth; the last node is 0.
    log_alpha : (R,) falling, log10 of the threshold that selects ``10 ** log_rho`` of the parameters.
    retained, remembered : (M, R, K), one pair of surfaces per ensemble member, *unclipped*: 1 is the untouched model,
        values above 1 or below 0 are kept, because a score has kinks where they are clipped.
    residual_sd : (2, R, K) or (2,), sd of truth - ensemble mean that the members' spread does not explain, as measured
        on held-out tasks.
    length_scales : (2, 2), correlation length of that residual per output and axis of z, in decades.
    log_damage : (R, K), as ``inputs.log_damage``. z = (log_damage, log_kappa): along a line of equal damage a task's
        response hardly moves, so that is where its residual is alike. None takes log_rho in its place.
    course : how the damage grows between the nodes along rho, as far as it is known. Interpolation along rho, of every
        array, is then linear in it.
    trust : in (0, 1], how likely the task is one of the kind the mapper has learned from.

    Arrays are kept at float32 precision, so that ``to_json`` loses nothing. Outside the grid the nearest node holds.

    Raises
    ------
    ConfigError : shapes do not agree, a value is not finite, or an axis is not monotone.
    """

    log_rho: Array
    log_kappa: Array
    log_alpha: Array
    retained: Array
    remembered: Array
    residual_sd: Array
    length_scales: Array
    trust: float = 1.0
    log_damage: Array | None = None
    course: Course | None = None

    def __post_init__(self) -> None:
        if self.log_damage is None:
            shape = (np.size(self.log_rho), np.size(self.log_kappa))
            object.__setattr__(self, "log_damage", np.broadcast_to(np.reshape(self.log_rho, (-1, 1)), shape))
        arrays = {name: np.asarray(getattr(self, name), np.float32).astype(float) for name in _SHAPES}
        sizes = {"R": arrays["log_rho"].size, "K": arrays["log_kappa"].size, "M": len(arrays["retained"]), "2": 2}
        arrays["residual_sd"] = np.broadcast_to(
            arrays["residual_sd"].reshape(2, 1, 1) if arrays["residual_sd"].shape == (2,) else arrays["residual_sd"],
            (2, sizes["R"], sizes["K"]),
        )
        for name, value in arrays.items():
            wanted = tuple(sizes[axis] for axis in _SHAPES[name])
            if value.shape != wanted:
                raise ConfigError(f"{name} has shape {value.shape}, not {wanted}", "response surface", "check the grid")
            if not np.isfinite(value).all():
                raise ConfigError(f"{name} holds a value that is not finite", "response surface", "check the mapper")
            object.__setattr__(self, name, value)
        for name, sign in (("log_rho", 1), ("log_kappa", 1), ("log_alpha", -1)):
            if not (sign * np.diff(arrays[name]) > 0).all():
                raise ConfigError(f"{name} is not monotone", "response surface", "drop repeated nodes")
        if not (arrays["length_scales"] > 0).all() or not (arrays["residual_sd"] >= 0).all() or not 0 < self.trust <= 1:
            raise ConfigError(
                "length scales must be > 0, residual_sd >= 0, trust in (0, 1]", "response surface", "check the mapper"
            )

    @cached_property
    def stacked(self) -> Array:
        """(M, 2, R, K): retained and remembered of every member."""
        return np.stack([self.retained, self.remembered], axis=1)

    def coordinates(self, alpha: ArrayLike, lam: ArrayLike) -> Array:
        """u of settings, shape (n, 2). Between two nodes log rho goes with the course of the damage. Beyond the map's
        ends it runs on at the map's mean slope, so that settings with different alpha never coincide."""
        log_alpha, log_kappa = (np.atleast_1d(each) for each in canonical(alpha, lam))
        falling, rising = self.log_alpha[::-1], self.log_rho[::-1]
        log_rho = np.interp(log_alpha, falling, rising)
        if self.course is not None and self.log_rho.size > 1:
            node, _ = cell(self.log_rho, log_rho)
            way = self.course.between(log_alpha, log_kappa, self.log_alpha[node], self.log_alpha[node + 1])
            log_rho = self.log_rho[node] + way * (self.log_rho[node + 1] - self.log_rho[node])
        slope = (self.log_rho[-1] - self.log_rho[0]) / (self.log_alpha[0] - self.log_alpha[-1])
        beyond = np.clip(log_alpha, falling[0], falling[-1]) - log_alpha
        return np.stack([log_rho + slope * beyond, log_kappa], axis=-1)

    def interpolate(self, values: Array, u: Array) -> Array:
        """Bilinear interpolation of ``values`` (..., R, K) at u (n, 2); returns (..., n)."""
        return interpolate(values, *self.cells(u))

    def cells(self, u: Array) -> tuple[Cell, Cell]:
        """Where u (n, 2) lies along rho and kappa, for several interpolations at once."""
        return cell(self.log_rho, u[:, 0]), cell(self.log_kappa, u[:, 1])

    def at(self, alpha: ArrayLike, lam: ArrayLike) -> Array:
        """(M, 2, n): unclipped (retained, remembered) of every member at settings."""
        return self.interpolate(self.stacked, self.coordinates(alpha, lam))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; arrays as base64 of little-endian float32."""
        course = None if self.course is None else self.course.to_json()
        return {name: pack(getattr(self, name)) for name in _SHAPES} | {"trust": self.trust, "course": course}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ResponseSurface:
        """Inverse of ``to_json``, exact. Raises ConfigError if ``raw`` is no response surface."""
        try:
            values = {item.name: raw[item.name] for item in fields(cls)}
            arrays = {name: unpack(values[name]) for name in _SHAPES}
            course = None if values["course"] is None else Course.from_json(values["course"])
            return cls(**arrays, trust=float(values["trust"]), course=course)
        except (KeyError, TypeError, ValueError) as reason:
            raise ConfigError(f"not a response surface ({reason!r})", "prior", "predict it again") from reason
