"""What a training is: its options, the terms of what is minimised, and the proximal steps beside Adam's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import Field
from torch import Tensor, nn

from ssdtune.studyfile import Positive
from ssdtune.unlearning.aims import Aim
from ssdtune.unlearning.method import Options

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]

FASTEST = 1e30  # rate; beyond it float32 overflows in Adam itself, not only in what it makes


class TrainingOptions(Options):
    """What a method that trains does not search.

    retain_slices, forget_slices : the most of each set that are trained on, drawn by ``seed`` and kept on the device.
    retain_fraction : share of the retain set that may be drawn from (0.1 in Xue et al., 2024).
    batch_size : slices of each set a step. clip : largest gradient norm (0.5 as in Xue et al., 2024).
    decay : whether the rate falls to 0 along half a cosine. mode : ``train`` lets running statistics move.
    """

    retain_slices: Count | Literal["all"] = 32
    forget_slices: Count | Literal["all"] = 32
    retain_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: Count = 4
    clip: Positive = 0.5
    decay: bool = True
    mode: Literal["eval", "train"] = "eval"


class Pull(Protocol):
    """A proximal step."""

    def pull(self, theta: Tensor, rate: float) -> None:
        """Move theta (P,) in place after a step at this rate."""


@dataclass(frozen=True, eq=False)
class Penalty:
    """Towards an anchor; ``weights`` (at least 0) and ``anchor`` are (P,) on the task's device."""

    weights: Tensor
    anchor: Tensor
    beta: float

    def pull(self, theta: Tensor, rate: float) -> None:
        strength = self.weights * min(rate * self.beta, FASTEST)  # 0 where the weight is, for any beta
        theta.lerp_(self.anchor, 1 / (1 + 1 / strength))


@dataclass(frozen=True)
class Shrink:
    """Towards 0 by the l1 norm, ``gamma`` in Adam's steps: 1 takes as much a step as Adam can move."""

    gamma: float

    def pull(self, theta: Tensor, rate: float) -> None:
        theta.copy_(nn.functional.softshrink(theta, min(rate * self.gamma, FASTEST)))


@dataclass(frozen=True, eq=False)
class Term:
    """One part of what is minimised, on batches of one set.

    aim : None is the loss against the samples' own targets. when : at which steps it counts, None at all.
    """

    set: str
    weight: float = 1.0
    aim: Aim | None = None
    cap: float = math.inf
    when: Callable[[int], bool] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """One training. ``mask`` : (P,), the share of a *step* that is taken (a mask on the gradient would let momentum and
    penalties past it; and scaling the gradient means nothing to Adam): False or 0 holds a parameter to the bit.

    stop_early : end when the held-back slices, looked at every ``LOOK`` steps, have stopped gaining. checkpoints :
    steps after which the parameters are kept beside the last ones.
    """

    steps: int
    rate: float
    terms: tuple[Term, ...] = (Term("retain"),)
    penalty: Pull | None = None
    mask: Tensor | None = None
    stop_early: bool = False
    checkpoints: tuple[int, ...] = ()
