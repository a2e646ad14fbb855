"""The seam between unlearning methods and everything that searches, scores, stores or shows them.

A ``Method`` says what can be searched and prepares itself for a task; the prepared ``Unlearner`` turns a setting into
parameters. Nobody above this room knows one method from another: add a file here and a line in ``methods.METHODS``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from ssdtune.device import full_precision
from ssdtune.knob import Knob as Knob
from ssdtune.progress import Track

if TYPE_CHECKING:
    from torch import Tensor

    from ssdtune.fisher.result import FisherAnalysis
    from ssdtune.prior.density import HyperparameterPrior
    from ssdtune.prior.knobs import KnobPrior
    from ssdtune.task import Task

Params = Mapping[str, "Tensor"]
"""Parameters by name, and buffers where a method moves them; what ``Task.predict`` takes."""

Setting = Mapping[str, float]
"""A value for each knob: exactly ``trial.params``."""

UNTOUCHED = "untouched"
"""The effect of a setting that leaves the model as it is."""


class Options(BaseModel):
    """A method's section of the study file beside its name: ranges of the knobs and whatever is not searched.

    seed : of everything random that a method does; with the setting it decides the result.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Stage:
    """Parameters along a setting's way, and what they cost in slice passes so far (a forward counts 1).

    The last stage is the result; a method that trains may yield checkpoints before it. A training that diverges yields
    parameters that are NaN, billed for the steps done: whoever evaluates them finds the worst score there is.

    setting : of a checkpoint, the setting whose result it is; it is then scored and recorded as a trial of its own.
    """

    params: Params
    cost: float = 0.0
    setting: Setting | None = None


@dataclass(frozen=True)
class PriorRequest:
    """What a study wants a prior for: its goal, floor / q_forget of the untouched model, and the mapper to ask."""

    retain_weight: float
    min_retained: float
    floor_ratio: float | None
    load_mapper: Callable[[], Any]


class Unlearner(Protocol):
    """A method made ready for one task: all long work that trials share is done.

    analysis : the Fisher analysis that it works with, None if it needs none. preparation : slice passes of all that was
    done once, the analysis included, whether it was computed or found in a cache.
    """

    analysis: FisherAnalysis | None
    preparation: float

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        """Unlearn; the task's model stays as it is. The same setting and seed give the same parameters."""

    def effect(self, setting: Setting) -> Hashable:
        """What a setting does: settings of equal effect are evaluated once; ``UNTOUCHED`` for no change."""

    def notes(self, setting: Setting) -> Mapping[str, float]:
        """What is recorded beside the measures."""

    def prior(self, request: PriorRequest) -> HyperparameterPrior | KnobPrior | None:
        """Where to search; None: plain samplers only."""

    def view(self) -> Mapping[str, Any] | None:
        """What a mapper would see of the task, as JSON values, kept in the study to learn from; None: nothing."""


class BaseUnlearner:
    """What most methods say beside how they unlearn: each setting has its own effect, and there is nothing else."""

    analysis: FisherAnalysis | None = None
    preparation: float = 0.0

    def effect(self, setting: Setting) -> Hashable:
        return tuple(sorted(setting.items()))

    def notes(self, setting: Setting) -> Mapping[str, float]:
        return {}

    def prior(self, request: PriorRequest) -> HyperparameterPrior | KnobPrior | None:
        return None

    def view(self) -> Mapping[str, Any] | None:
        return None


BACKWARD = 3  # slice passes of a slice that is differentiated


def analysis_passes(task: Task, analysis: FisherAnalysis | None = None) -> float:
    """Slice passes of the gradients of all samples, each taken once; of an analysis, which may be of a part of them."""
    if analysis is not None:
        return BACKWARD * float(len(analysis.retain.ids) + len(analysis.forget.ids))
    return BACKWARD * float(len(task.retain) + len(task.forget))


Analyse = Callable[[], "FisherAnalysis"]
"""Gives the task's Fisher analysis, computed or from the cache; not asked by methods that need none."""


class Method(Protocol):
    """One way to unlearn. ``summary`` : one line for lists. ``sampler`` : the one that a study takes by default."""

    name: str
    summary: str
    sampler: str
    Options: type[Options]

    def needs(self, task: Task, options: Any) -> str | None:
        """One line when the task lacks something that the method, with these options, cannot do without."""

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        """What is searched; a range that would depend on the task is that of a dimensionless knob."""

    def published(self, options: Any) -> list[dict[str, float]]:
        """Published settings: the first trials of a study, in plain values of all knobs."""

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        """All long work that trials share."""


class BaseMethod:
    """What most methods say beside their knobs: they serve every task, by TPE, and nothing was published for them."""

    sampler = "tpe"
    Options: type[Options] = Options

    def needs(self, task: Task, options: Any) -> str | None:
        return None

    def published(self, options: Any) -> list[dict[str, float]]:
        return []


@dataclass(frozen=True)
class Tried:
    """An earlier trial, as a method that chooses sees it: setting, slice passes, and rank, of which more is better.

    A trial under way has cost nothing yet and has the lowest rank.
    """

    setting: Setting
    cost: float
    rank: tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """What the next trial searches; ``given`` : values of knobs that are not left to the sampler."""

    knobs: tuple[Knob, ...]
    given: Setting = field(default_factory=dict)


@runtime_checkable
class Chooser(Protocol):
    """A method of which a trial may search some knobs only, chosen by what the trials before it came to."""

    def choose(self, options: Any, tried: Sequence[Tried], trials: int) -> Choice | None:
        """The next trial of a study of so many; None: there is nothing left to spend."""


@full_precision()
def run(unlearner: Unlearner, setting: Setting, seed: int) -> Stage:
    """The last stage: the unlearned parameters and what they cost."""
    for stage in unlearner(setting, seed):
        last = stage
    return last
