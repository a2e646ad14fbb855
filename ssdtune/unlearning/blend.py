"""What compositions are made of: parents and their results, a head, three parts, and what several models agree on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ssdtune.errors import ConfigError
from ssdtune.fisher.depth import SENSITIVITY, THIRDS, stages
from ssdtune.progress import Track
from ssdtune.task import Task
from ssdtune.unlearning.encoder import encoder
from ssdtune.unlearning.method import Analyse, Params, Unlearner, run
from ssdtune.unlearning.methods import choose_method


class Parent(BaseModel):
    """A finished trial: its name for people, its method's section, setting and seed, and what it was billed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: str
    method: dict[str, Any]
    setting: dict[str, float]
    seed: int
    cost: float = 0.0


def repeated(task: Task, parents: Sequence[Parent], analyse: Analyse, track: Track) -> tuple[list[Params], float]:
    """(each parent's result, slice passes of what their methods did once)

    Raises ConfigError: a result is not finite, or has running statistics of its own.
    """
    made: dict[str, Unlearner] = {}
    found = []
    for parent in track(parents, "parents", len(parents)):
        key = json.dumps(parent.method, sort_keys=True)
        if key not in made:
            chosen = choose_method(parent.method, parent.trial)
            made[key] = chosen.method.prepare(task, chosen.options, analyse=analyse, track=track)
        params = run(made[key], parent.setting, parent.seed).params
        if params.keys() != task.params.keys() or not all(value.isfinite().all() for value in params.values()):
            what = f"{parent.trial} moves running statistics, or is not finite"
            raise ConfigError(what, "method.parents", "compose other trials")
        found.append(params)
    return found, sum(unlearner.preparation for unlearner in made.values())


def head(task: Task) -> set[str]:
    """Names of the parameters of a classifier's last linear layer; none where the encoder is a U-Net's or unknown."""
    watched, body = encoder(task.model)
    return set(task.params) - body if watched and not any(watched.values()) else set()


def parts(names: Sequence[str]) -> list[int]:
    """0, 1 or 2 for each parameter: which of the three parts it belongs to."""
    found = stages(names)
    if set(found) <= set(THIRDS):
        return [THIRDS.index(stage) for stage in found]
    cascades = list(dict.fromkeys(stage for stage in found if stage != SENSITIVITY))
    return [0 if stage == SENSITIVITY else 1 + (2 * cascades.index(stage) >= len(cascades)) for stage in found]


def agreed(start: Params, parents: Sequence[Params]) -> dict[str, Tensor]:
    """Mean change of the parents where all change in one direction, else 0; of the shapes (...,) of ``start``.

    Source: NegMerge, Kim et al., ICML 2025.
    """
    found = {}
    for name, value in start.items():
        change = torch.stack([parent[name] - value for parent in parents])
        found[name] = torch.where(change.sign().sum(0).abs() == len(parents), change.mean(0), 0.0)
    return found
