"""SCRUB (Kurmanji et al., NeurIPS 2023): away from the untouched model on forget samples, near it on retain samples.

Two kinds of steps take turns, each with a batch of its own: min steps minimise J_r + w_d d(f(x_r), f_theta0(x_r)), max
steps maximise d(f(x_f), f_theta0(x_f)). There are ``steps`` min steps, and after the first ``max_share`` of them a max
step each; the last step is a min step. d is the task's distance (for images it is bounded, so the ascent is too).
Published (ResNet-18 of 11.2 million parameters): rate 5e-4 (lr = 1.7), w_d = 0.5 (the paper's alpha; its gamma is 1
here), max steps in 3 of 10 epochs.

Traps: at the published rate it diverges for others; code in circulation adds a penalty on the distance to theta0
(SCRUB-S) or a weight decay that the paper does not have; neither is here. d is flat at theta0, where a max step finds
no gradient but rounding, which Adam scales up: training begins with a min step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ssdtune.progress import Track
from ssdtune.studyfile import Range, rising
from ssdtune.task import Distance, Task
from ssdtune.unlearning.aims import distance_of, towards
from ssdtune.unlearning.bad_teacher import NO_DISTANCE
from ssdtune.unlearning.ft import FT, LR, STEPS, FTOptions, FTUnlearner
from ssdtune.unlearning.method import Analyse, Knob, Setting, Unlearner
from ssdtune.unlearning.plan import Plan, Term
from ssdtune.unlearning.training import Trainer

MAX_SHARE, DISTANCE_WEIGHT = "max_share", "w_d"

Shares = Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=1)]], AfterValidator(rising)]


class ScrubOptions(FTOptions):
    """Those of fine-tuning, ranges of the share of max steps and of the retain distance's weight.

    checkpoints : none, as when max steps end depends on how many steps there are.
    """

    lr: Range = (0.05, 10.0)
    max_share: Shares = (0.1, 1.0)
    w_d: Range = (1e-3, 10.0)
    checkpoints: Literal[1] = 1


class Scrub(FT):
    """The method."""

    name, summary = "scrub", "SCRUB: away from the untouched model on forget samples, near it on retain samples"
    Options = ScrubOptions
    sets = ("retain", "forget")

    def needs(self, task: Task, options: Any) -> str | None:
        return NO_DISTANCE if distance_of(task) is None else super().needs(task, options)

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        share = Knob.over(MAX_SHARE, options.max_share, scale="linear", about="steps with a max step before them")
        return *super().knobs(options), share, Knob.over(DISTANCE_WEIGHT, options.w_d, about="weight of the distance")

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{LR: 1.7, STEPS: options.steps[1], MAX_SHARE: 0.3, DISTANCE_WEIGHT: 0.5}]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        distance = distance_of(task)
        assert distance is not None  # refused by ``needs``
        return ScrubUnlearner(Trainer(task, options, sets=self.sets), distance)


class ScrubUnlearner(FTUnlearner):
    """SCRUB on one task; the untouched model answers once."""

    def __init__(self, trainer: Trainer, distance: Distance) -> None:
        super().__init__(trainer)
        self.distance = distance
        self.preparation = float(trainer.slices("retain") + trainer.slices("forget"))
        self.kept = {name: trainer.outputs(name, trainer.task.model) for name in ("retain", "forget")}

    def plan(self, setting: Setting, seed: int) -> Plan:
        trainer, distance, kept = self.trainer, self.distance, self.kept["retain"]
        most = max(min(round(setting[MAX_SHARE] * setting[STEPS]), int(setting[STEPS]) - 1), 0)

        def near(model: Any, batch: Any) -> Any:
            output = trainer.output(model, batch)
            apart = distance(output, kept(batch), batch.target)
            return trainer.task.loss(output, batch.target) + setting[DISTANCE_WEIGHT] * apart

        def is_max(step: int) -> bool:
            return step % 2 == 1 and step < 2 * most

        away = Term("forget", -1.0, towards(self.kept["forget"], trainer.output, distance), when=is_max)
        terms = Term("retain", aim=near, when=lambda step: not is_max(step)), away
        plan = super().plan(setting, seed)
        return replace(plan, steps=plan.steps + most, terms=terms)
