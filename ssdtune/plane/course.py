"""Course: how the damage grows as alpha falls, in steps too fine for a grid of predictions.

SSD multiplies a parameter that alpha passes by kappa at once, and one heavy parameter is a cliff in the response. Where
it lies is known from the Fisher diagonal alone; so between two nodes of a grid, progress is measured in damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ssdtune.arrays import Array
from ssdtune.errors import ConfigError
from ssdtune.plane.bilinear import cell, interpolate
from ssdtune.plane.packing import pack, unpack

_PLAIN = 0.1  # of the progress is in log alpha, so that no two settings are the same
_LEAST = 1e-9


@dataclass(frozen=True, eq=False)
class Course:
    """Damage of the retain set by the Fisher diagonal along lines of constant depth.

    log_alpha : (F,) log10, falling. log_kappa : (Q,) log10, rising. damage : (F, Q), rising along alpha.

    Raises
    ------
    ConfigError : shapes do not agree, or a value is not finite or negative.
    """

    log_alpha: Array
    log_kappa: Array
    damage: Array

    def __post_init__(self) -> None:
        for name in ("log_alpha", "log_kappa", "damage"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32).astype(float))
        right = self.damage.shape == (self.log_alpha.size, self.log_kappa.size)
        if not right or not all(np.isfinite(each).all() for each in (self.log_alpha, self.log_kappa, self.damage)):
            raise ConfigError("damage does not lie on its lines", "course", "predict it again")
        if (self.damage < 0).any():
            raise ConfigError("damage below 0", "course", "predict it again")

    def between(self, log_alpha: Array, log_kappa: Array, start: Array, end: Array) -> Array:
        """Progress in [0, 1] of settings from log10 alpha ``start`` to ``end`` at the same depth; all (n,)."""
        share = np.clip((log_alpha - start) / (end - start), 0, 1)
        first, here, last = (self._at(each, log_kappa) for each in (start, log_alpha, end))
        way = last - first
        progress = np.clip((here - first) / np.maximum(way, _LEAST), 0, 1)
        return np.where(way > _LEAST, _PLAIN * share + (1 - _PLAIN) * progress, share)

    def _at(self, log_alpha: Array, log_kappa: Array) -> Array:
        """(n,) square root of the damage, bilinear; beyond the ends the nearest holds."""
        return interpolate(self._root, cell(-self.log_alpha, -log_alpha), cell(self.log_kappa, log_kappa))

    @cached_property
    def _root(self) -> Array:
        return np.sqrt(self.damage)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; arrays as base64 of little-endian float32."""
        return {name: pack(getattr(self, name)) for name in ("log_alpha", "log_kappa", "damage")}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Course:
        """Inverse of ``to_json``, exact. Raises ConfigError if ``raw`` is no course."""
        try:
            return cls(*(unpack(raw[name]) for name in ("log_alpha", "log_kappa", "damage")))
        except (KeyError, TypeError, ValueError) as reason:
            raise ConfigError(f"not a course ({reason!r})", "course", "predict it again") from reason
