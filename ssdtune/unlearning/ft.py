"""Fine-tuning on retain samples (Warnecke et al., 2021; Xue et al., 2024): what is not rehearsed may be forgotten.

min J_r from the untouched model; the forget set is not used. The knob lr is the length |theta_t+1 - theta_t| of a step
of size 1 in each of the P coordinates times Adam's rate, lr = rate sqrt(P), so that one range serves all sizes of
networks. Published for MRI: rate 1e-3, that of the training, on a VarNet of 29.9 million parameters, which is lr = 5.5;
batch 1, 5 epochs of a tenth of the retain slices. ``full-ft`` is the same on all retain samples.

This is also the base of the other methods whose settings are one training each: they add terms to the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ssdtune.files import content_hash
from ssdtune.progress import Track
from ssdtune.studyfile import Range, rising
from ssdtune.task import Task
from ssdtune.unlearning.foreseen import knob_prior
from ssdtune.unlearning.method import (
    UNTOUCHED,
    Analyse,
    BaseUnlearner,
    Knob,
    Options,
    Params,
    PriorRequest,
    Setting,
    Stage,
    Unlearner,
    analysis_passes,
)
from ssdtune.unlearning.plan import Plan, TrainingOptions
from ssdtune.unlearning.training import Trainer, allowed, untrainable

if TYPE_CHECKING:
    from ssdtune.fisher.result import FisherAnalysis
    from ssdtune.prior.knobs import KnobPrior

LR, STEPS = "lr", "steps"


Steps = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=100_000)]], AfterValidator(rising)]


class FTOptions(TrainingOptions):
    """Ranges of a step's length and of the number of steps.

    checkpoints : places of one trajectory that are trials, in equal parts of its steps; the rate must then be constant.
    """

    lr: Range = (0.1, 10.0)
    steps: Steps = (4, 20)
    checkpoints: Annotated[int, Field(ge=1, le=8)] = 1

    @model_validator(mode="after")
    def _one_trajectory(self) -> Self:
        if self.checkpoints > 1 and self.decay:
            raise ValueError("checkpoints are results of fewer steps only at a constant rate: add decay = false")
        return self


class FT:
    """The method."""

    name, summary, sampler = "ft", "Fine-tuning on retain samples: trains, needs no forget samples", "tpe"
    Options: type[Options] = FTOptions
    sets: tuple[str, ...] = ("retain",)

    def needs(self, task: Task, options: Any) -> str | None:
        if (lacking := untrainable(task)) is not None:
            return lacking
        if "retain" in self.sets and not allowed(len(task.retain), options):
            return f"a retain sample in the fraction {options.retain_fraction:g} of the {len(task.retain)} there are"
        return None

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        low, high = options.steps
        return Knob(LR, *options.lr), Knob(STEPS, low, high, integer=True)

    def published(self, options: Any) -> list[dict[str, float]]:
        return [{LR: 5.5, STEPS: options.steps[1]}]

    def prepare(self, task: Task, options: Any, *, analyse: Analyse, track: Track) -> Unlearner:
        return FTUnlearner(Trainer(task, options, sets=self.sets)).foreseen_by(self, analyse)


class FullFTOptions(FTOptions):
    """Those of ``ft``, of which ``retain_slices`` is fixed."""

    retain_slices: Literal["all"] = "all"


class FullFT(FT):
    """Fine-tuning on all retain samples."""

    name, summary = "full-ft", "Fine-tuning on all retain samples"
    Options = FullFTOptions


class FTUnlearner(BaseUnlearner):
    """Fine-tuning on one task."""

    _foresee: Callable[[PriorRequest], KnobPrior | None] | None = None

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def foreseen_by(self, method: FT, analyse: Analyse) -> Self:
        """Itself, offering a prior over the method's knobs; an analysis is computed, and billed, if it is asked for."""

        def analysis() -> FisherAnalysis:
            found = analyse()
            self.preparation += analysis_passes(self.trainer.task, found)
            return found

        self._foresee = lambda request: knob_prior(request, method, self.trainer.options, analysis=analysis)
        return self

    def prior(self, request: PriorRequest) -> KnobPrior | None:
        return self._foresee(request) if self._foresee is not None else None

    def plan(self, setting: Setting, seed: int) -> Plan:
        return Plan(int(setting[STEPS]), setting[LR] * self.trainer.unit)

    def start(self, setting: Setting, seed: int) -> Params | None:
        """Where the training begins; None: the untouched model."""
        return None

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        options, steps = self.trainer.options, int(setting[STEPS])
        places: tuple[int, ...] = ()
        parts: int = getattr(options, "checkpoints", 1)
        if parts > 1:  # then a seed that does not hang on the number of steps
            own = [f"{name}={value}" for name, value in sorted(setting.items()) if name != STEPS]
            seed = int(content_hash(["trajectory", str(options.seed), *own])[:15], 16)
            least = getattr(options, STEPS)[0]
            places = tuple(at for part in range(1, parts) if (at := steps * part // parts) >= least)
        start = self.start(setting, seed) if steps else None
        plan = self.plan(setting, seed)
        trained = self.trainer.train(replace(plan, checkpoints=places), seed, start)
        for step, (params, cost) in trained.checkpoints.items():
            yield Stage(params, cost, {**setting, STEPS: step})
        yield Stage(trained.params, trained.cost)

    def effect(self, setting: Setting) -> Hashable:
        return tuple(sorted(setting.items())) if setting[STEPS] else UNTOUCHED

    def notes(self, setting: Setting) -> dict[str, float]:
        return {"rate": setting[LR] * self.trainer.unit}
