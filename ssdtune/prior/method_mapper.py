"""MethodMapper: from a method's knobs and what the Fisher information says of a task to the response, as ``mapper``
does for SSD, with the same networks (``network``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from ssdtune.arrays import Array
from ssdtune.prior.inputs import global_inputs
from ssdtune.prior.network import ARRAYS, Networks
from ssdtune.prior.standard import Standard, clip_far, latent_draws
from ssdtune.surrogate.belief import squash


@dataclass(frozen=True, eq=False)
class MethodMapper:
    """One method's part of a mapper.

    latent_mean (B, D), latent_root (B, D, D) : the networks' latent vectors over tasks. residual_sd (2, levels), at
    ``calibration.LEVELS``, of the truth around the member that fits a held-out task. tasks : how many it learned from.
    """

    networks: Networks
    local: Standard
    global_: Standard
    latent_mean: Array
    latent_root: Array
    residual_sd: Array
    tasks: int

    KEYS: ClassVar[tuple[str, ...]] = (
        *(f"networks.{name}" for name in ARRAYS),
        *(f"{side}.{name}" for side in ("local", "global_") for name in ("mean", "sd")),
        "latent_mean",
        "latent_root",
        "residual_sd",
    )

    def members(self, local: Array, features: Mapping[str, float], floor_ratio: float) -> Array:
        """(M, 2, n): squashed (retained, remembered) of every member.

        local (n, L) as ``method_inputs`` gives them. features : of the analysis, empty where the method has none.
        floor_ratio : floor over q_forget of the untouched model, below 1.
        """
        task = clip_far(self.global_(global_inputs(self.global_.names, features, floor_ratio)))
        draws = latent_draws(self.latent_mean, self.latent_root)
        found = self.networks(self.local(local), task, draws, np.ones(len(local))).reshape(-1, len(local), 2)
        found[..., 1] = 1 - (1 - found[..., 1]) / (1 - floor_ratio)
        return squash(np.moveaxis(found, 2, 1))

    def arrays(self) -> dict[str, Array]:
        """What is kept, by ``KEYS``."""
        found = {f"networks.{name}": getattr(self.networks, name) for name in ARRAYS}
        for side in ("local", "global_"):
            found |= {f"{side}.{name}": getattr(getattr(self, side), name) for name in ("mean", "sd")}
        return found | {name: getattr(self, name) for name in ("latent_mean", "latent_root", "residual_sd")}

    def header(self) -> dict[str, Any]:
        """What is kept beside the arrays, as JSON values."""
        return {"local": self.local.names, "global_": self.global_.names, "tasks": self.tasks}

    @classmethod
    def read(cls, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> MethodMapper:
        """Inverse of ``header`` and ``arrays``."""
        local, global_ = (
            Standard(list(header[side]), arrays[f"{side}.mean"], arrays[f"{side}.sd"]) for side in ("local", "global_")
        )
        networks = Networks(**{item.name: arrays[f"networks.{item.name}"] for item in fields(Networks)})
        latent = arrays["latent_mean"], arrays["latent_root"]
        return cls(networks, local, global_, *latent, arrays["residual_sd"], int(header["tasks"]))
