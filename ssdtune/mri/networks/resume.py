"""The file that lets a training go on where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssdtune.errors import ConfigError, ModelError
from ssdtune.mri.networks.checkpoint import read_weights_only, write_weights

_FORMAT = 2
_TODO = "delete it to start over"
_NOT_SHOWN = {"data": "other training data", "start": "another starting model"}


def resume_path(checkpoint: Path) -> Path:
    """Where the training of a checkpoint keeps what is done."""
    return checkpoint.with_name(f"{checkpoint.name}.resume")


@dataclass
class Progress:
    """How far a training has come.

    epoch, step : finished epochs, and finished steps of the epoch under way.
    total : loss summed over the samples of the epoch under way.
    losses : mean loss of every finished epoch. validation : that of the validation set after each, if there is one.
    """

    epoch: int = 0
    step: int = 0
    total: float = 0.0
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    def advance(self, loss: float, count: int, steps: int, samples: int) -> None:
        """One more step, over ``count`` of ``samples``; the epoch has ``steps``."""
        self.step += 1
        self.total += loss * count
        if self.step == steps:
            self.losses.append(self.total / samples)
            self.epoch, self.step, self.total = self.epoch + 1, 0, 0.0


@dataclass(frozen=True)
class ResumeFile:
    """Weights, optimiser state and progress of a training with these settings (plain values; hashes of the rest)."""

    path: Path
    settings: Mapping[str, Any]

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write the file, whole or not at all. Raises ModelError if it cannot be written."""
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        write_weights(self.path, {"format": _FORMAT, "settings": dict(self.settings), **asdict(progress), **states})

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, restart: bool) -> Progress | None:
        """Put the kept state into ``model`` and ``optimizer``; None, and nothing changed, if there is no file.

        restart : a file of other settings is passed over, as is one in which no work is kept.

        Raises
        ------
        ConfigError : the file is of other settings.
        ModelError : the file is damaged.
        """
        if not self.path.exists():
            return None
        kept = read_weights_only(self.path, _TODO)
        if not isinstance(kept, dict) or kept.get("format") != _FORMAT:
            raise ModelError("not a resume file of this version", self.path, _TODO)
        if differences := self._differences(kept["settings"]):
            if restart or (kept["epoch"], kept["step"]) == (0, 0):  # nothing would be lost
                return None
            what = f"keeps a training of other settings ({'; '.join(differences)})"
            raise ConfigError(what, self.path, "use the same settings, or delete it or give --overwrite to start over")
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        return Progress(kept["epoch"], kept["step"], kept["total"], kept["losses"], kept["validation"])

    def _differences(self, kept: Mapping[str, Any]) -> list[str]:
        return [
            _NOT_SHOWN.get(key, f"{key} {kept.get(key)} there, {value} here")
            for key, value in self.settings.items()
            if kept.get(key) != value
        ]
