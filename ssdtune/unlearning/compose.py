"""Composition: models between, or of parts of, the results of finished trials of other studies.

With A and B two parents, A the one that retains most and B the one that forgets best, or theta_i several:

    interpolate    theta = A + t (B - A)
    groups         the same, with a t for each of three parts: sensitivity net, early and late cascades of a VarNet; for
                   other networks thirds of the depth
    head           A with the last linear layer of B: classifiers (Nahass et al., arXiv 2505.21872)
    merge          theta = theta0 + t mean_i (theta_i - theta0) where all theta_i - theta0 agree in sign, else theta0
                   (NegMerge, Kim et al., ICML 2025)

Parents are plain values among the options: ``study.parents`` chooses them and ``study create --parents`` writes them.
They are repeated by their own methods; what their trials had cost is billed as the preparation. A composition costs no
gradient, but for ``repair`` steps of fine-tuning on retain samples from there, which is how a head is transplanted in
Nahass et al. (Adam 1e-4, 5 epochs; a number of epochs has no counterpart here, so nothing is enqueued).

Traps: between models of two basins quality is lost; parents that start at theta0 and train briefly lie in one. The
authors of the transplant left it out of the journal version.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator, model_validator
from torch import Tensor

from ssdtune.progress import Track
from ssdtune.studyfile import Range, rising
from ssdtune.task import Task
from ssdtune.unlearning.blend import Parent, agreed, head, parts, repeated
from ssdtune.unlearning.ft import FT, LR, FTOptions
from ssdtune.unlearning.method import UNTOUCHED, Analyse, BaseMethod, BaseUnlearner, Knob, Params, Setting, Stage
from ssdtune.unlearning.plan import Natural, Plan, TrainingOptions
from ssdtune.unlearning.training import Trainer

KNOBS: dict[str, dict[str, str]] = {
    "interpolate": {"t": "from the first parent to the second"},
    "groups": {f"t_{part}": f"the same, of the {part} part" for part in ("first", "second", "third")},
    "merge": {"t": "how far along what all parents agree on"},
    "head": {},
}


class ComposeOptions(TrainingOptions):
    """Kind of the composition, its parents (two; of ``merge`` two or more), and the range of each t.

    repair : steps of fine-tuning afterwards, at a rate that is a knob as in ``ft``.
    """

    kind: Literal["interpolate", "groups", "merge", "head"] = "interpolate"
    parents: tuple[Parent, ...] = ()
    t: Annotated[tuple[float, float], AfterValidator(rising)] = (-0.25, 1.25)
    repair: Natural = 0
    lr: Range = FTOptions().lr

    @model_validator(mode="after")
    def _as_many_as_it_takes(self) -> Self:
        if len(self.parents) == 1 or (len(self.parents) > 2 and self.kind != "merge"):
            raise ValueError(f"kind '{self.kind}' takes two parents, got {len(self.parents)}")
        return self


class Compose(BaseMethod):
    """The method."""

    name, summary = "compose", "Between finished trials of other studies, in the space of weights"
    Options = ComposeOptions

    def needs(self, task: Task, options: ComposeOptions) -> str | None:
        if not options.parents:
            return "finished trials to compose (study create --parents STUDY,...)"
        if options.kind == "head" and not head(task):
            return "a last linear layer, which kind = 'head' transplants"
        return FT().needs(task, options) if options.repair else None

    def knobs(self, options: ComposeOptions) -> tuple[Knob, ...]:
        own = [Knob.over(name, options.t, "linear", about) for name, about in KNOBS[options.kind].items()]
        repair = (Knob.over(LR, options.lr, about="step length of the repair"),) if options.repair else ()
        return *own, *repair

    def prepare(self, task: Task, options: ComposeOptions, *, analyse: Analyse, track: Track) -> ComposeUnlearner:
        found, preparation = repeated(task, options.parents, analyse, track)
        return ComposeUnlearner(task, options, found, preparation)


class ComposeUnlearner(BaseUnlearner):
    """Compositions of parents on one task."""

    def __init__(self, task: Task, options: ComposeOptions, parents: Sequence[Params], preparation: float) -> None:
        self.task, self.kind, self.parents = task, options.kind, parents
        self.preparation = preparation + sum(parent.cost for parent in options.parents)
        self.repair, self.trainer = options.repair, Trainer(task, options) if options.repair else None
        knobs = list(KNOBS[options.kind])
        self._knob = dict.fromkeys(task.params, knobs[0]) if knobs else {}
        if options.kind == "groups":
            self._knob = {n: knobs[part] for n, part in zip(task.params, parts(list(task.params)), strict=True)}
        self._head = head(task)
        self._agreed = agreed(task.params, parents) if self.kind == "merge" else {}

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        params: Params = {name: self.composed(name, setting) for name in self.task.params}
        if self.trainer is None:
            yield Stage(params)
            return
        trained = self.trainer.train(Plan(self.repair, setting[LR] * self.trainer.unit), seed, params)
        yield Stage(trained.params, trained.cost)

    def composed(self, name: str, setting: Setting) -> Tensor:
        """One parameter."""
        if self.kind == "merge":
            return self.task.params[name] + setting["t"] * self._agreed[name]
        first, second = (parent[name] for parent in self.parents)
        if self.kind == "head":
            return second if name in self._head else first
        return torch.lerp(first, second, setting[self._knob[name]])

    def effect(self, setting: Setting) -> Hashable:
        untouched = self.kind == "merge" and not setting["t"] and not self.repair
        return UNTOUCHED if untouched else tuple(sorted(setting.items()))
