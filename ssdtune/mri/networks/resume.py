"""The file that lets a training go on where it was stopped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssdtune.errors import ConfigError, ModelError
from ssdtune.mri.networks.checkpoint import read_weights_only, write_weights

_FORMAT = 2
START_OVER = "delete it to start over"
_NOT_SHOWN = {"data": "other training data", "start": "another starting model"}


def resume_path(checkpoint: Path) -> Path:
    """Where the training of a checkpoint keeps what is done."""
    return checkpoint.with_name(f"{checkpoint.name}.resume")


@contextmanager
def refusing_damage(path: Path) -> Iterator[None]:
    """What of a resume file does not fit where it is put is a ModelError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as reason:
        raise ModelError("damaged resume file", path, START_OVER) from reason


def check_numbers(values: Iterable[object]) -> None:
    """Raise ValueError unless all are finite floats."""
    if not all(isinstance(value, float) and math.isfinite(value) for value in values):
        raise ValueError


def load_adam(optimizer: torch.optim.Optimizer, kept: Any) -> None:
    """Put Adam's kept state into ``optimizer``; raises ValueError, or what else ``refusing_damage`` knows, if it does
    not fit."""
    own = _settings(optimizer)
    optimizer.load_state_dict(kept)
    fits = _settings(optimizer) == own and all(
        state["exp_avg"].shape == state["exp_avg_sq"].shape == weight.shape and state["step"].numel() == 1
        for weight, state in optimizer.state.items()
    )
    if not fits:
        raise ValueError


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """All but the learning rate, which is set in every step."""
    return [{key: group[key] for key in group if key not in ("params", "lr")} for group in optimizer.param_groups]


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

    def check(self) -> None:
        """Raise ValueError unless the values are of their kinds and one loss was kept for every epoch."""
        check_numbers([self.total, *self.losses, *self.validation])
        counts = type(self.epoch) is type(self.step) is int and min(self.epoch, self.step) >= 0
        if not counts or len(self.losses) != self.epoch or len(self.validation) not in (0, self.epoch):
            raise ValueError

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
        kept = read_weights_only(self.path, START_OVER)
        if not isinstance(kept, dict) or kept.get("format") != _FORMAT:
            raise ModelError("not a resume file of this version", self.path, START_OVER)
        with refusing_damage(self.path):
            progress = Progress(kept["epoch"], kept["step"], kept["total"], kept["losses"], kept["validation"])
            if differences := self._differences(kept["settings"]):
                if restart or (progress.epoch, progress.step) == (0, 0):  # nothing would be lost
                    return None
                what = f"keeps a training of other settings ({'; '.join(differences)})"
                todo = "use the same settings, or delete it or give --overwrite to start over"
                raise ConfigError(what, self.path, todo)
            progress.check()
            model.load_state_dict(kept["model"])
            load_adam(optimizer, kept["optimizer"])
        return progress

    def _differences(self, kept: Mapping[str, Any]) -> list[str]:
        return [
            _NOT_SHOWN.get(key, f"{key} {kept.get(key)} there, {value} here")
            for key, value in self.settings.items()
            if kept.get(key) != value
        ]
