"""The spectral update (``spectral``) on one task, and its options."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from ssdtune.fisher.metric import MetricKind, relinearised, spectral_metric
from ssdtune.progress import Track
from ssdtune.studyfile import Positive, Range
from ssdtune.subset import part_of
from ssdtune.task import Task
from ssdtune.unlearning.foreseen import knob_prior
from ssdtune.unlearning.ft import LR, FTOptions
from ssdtune.unlearning.method import (
    BACKWARD,
    BaseUnlearner,
    Method,
    Params,
    PriorRequest,
    Setting,
    Stage,
    analysis_passes,
)
from ssdtune.unlearning.plan import Count, Natural, Plan, Term, TrainingOptions
from ssdtune.unlearning.training import Trainer

if TYPE_CHECKING:
    from ssdtune.prior.knobs import KnobPrior

MU, WEIGHT, ETA, DAMAGE = "mu", "w_r", "eta", "damage"


class SpectralOptions(TrainingOptions):
    """Ranges of the knobs, and what is not searched; of the training, the batches are those of the later gradients.

    steps : T. limit : what bounds the update; ``damage`` is over the untouched model's retain loss, and eta is still at
    most its upper end. samples : the most of each set whose gradients make F_r, D and the first step.
    memory_budget_gib : for them; of rows that do not fit, as many eigenvectors as do.
    repair : steps of fine-tuning on retain samples afterwards, at a rate that is a knob as in ``ft``.
    """

    mu: Range = (0.02, 5.0)
    w_r: Range = (1.0, 20.0)
    eta: Range = (0.01, 0.5)
    damage: Range = (1e-3, 3.0)
    lr: Range = FTOptions().lr
    steps: Count = 5
    metric: MetricKind = "diagonal"
    limit: Literal["length", "damage"] = "length"
    repair: Natural = 0
    samples: Count | None = None
    memory_budget_gib: Positive = 4.0


class SpectralUnlearner(BaseUnlearner):
    """The update on one task.

    metric : of the untouched model, its rows kept. space : foresees updates; ``space.plane(mu, eta, w_r)`` gives the
    predicted loss changes of both sets over a whole plane, from matrices of sample size.
    """

    def __init__(self, task: Task, options: SpectralOptions, method: Method, track: Track) -> None:
        self._task, self._options, self._method, self._knobs = task, options, method, method.knobs(options)
        kept_retain, kept_forget = (part_of(getattr(task, n), options.samples, n) for n in ("retain", "forget"))
        analysed = replace(task, retain=kept_retain, forget=kept_forget) if options.samples else task
        self.metric, self.space = spectral_metric(
            analysed, options.metric, memory_budget=options.memory_budget_gib * 2**30, track=track
        )
        self._trainer: Trainer | None = None
        if options.steps > 1 or options.repair or options.limit == "damage":
            self._trainer = Trainer(task, options, sets=("retain", "forget"))
        trusted = self._trainer if options.limit == "damage" else None
        self._retain_loss, looked = trusted.mean_loss("retain", task.twin()) if trusted else (math.nan, 0)
        self.preparation = analysis_passes(analysed) + looked

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        options, trainer, space = self._options, self._trainer, self.space
        mu, weight = setting[MU], setting[WEIGHT]
        twin, cost = self._task.twin(options.mode), 0.0
        streams = {name: trainer.stream(name, seed) for name in ("forget", "retain")} if trainer else {}

        def ascent(theta: Tensor) -> Tensor:
            nonlocal cost
            assert trainer is not None
            vector_to_parameters(theta.to(self._task.device), twin.parameters())
            batches = {name: next(stream) for name, stream in streams.items()}
            cost += BACKWARD * sum(batch.slices for batch in batches.values())
            signs = {"forget": 1.0, "retain": -weight}
            gradient = trainer.gradient(twin, [(Term(name, signs[name]), batch) for name, batch in batches.items()])
            return torch.full_like(theta, math.nan) if gradient is None else gradient.to(theta.device)

        theta = torch.cat([value.flatten() for value in self._task.params.values()]).to(self.metric.weights.device)
        first = self.metric.direction(space, mu, weight).to(theta.dtype)
        with trainer.chance(seed) if trainer else nullcontext():
            moved = relinearised(theta, first, ascent, self.metric, mu=mu, eta=self._eta(setting), steps=options.steps)
        vector_to_parameters(moved.to(self._task.device), twin.parameters())
        params: Params = self._task.state(twin)
        if trainer is not None and options.repair:  # no stage before it: a repair also forgets
            params, more, _ = trainer.train(Plan(options.repair, setting[LR] * trainer.unit), seed, params)
            cost += more
        yield Stage(params, cost)

    def effect(self, setting: Setting) -> Hashable:
        return tuple(setting[knob.name] for knob in self._knobs)

    def notes(self, setting: Setting) -> dict[str, float]:
        """What is foreseen of one step of the whole length, and that length |theta' - theta|.

        rank_error : |d_k - d| / |d| of the first direction, 0 where all rows are kept.
        """
        _, error = self.space.rank_error(self.space.rank, [setting[MU]], setting[WEIGHT])
        eta = self._eta(setting)
        changes = self._foreseen(setting, eta)
        return {**changes, "step_length": eta * self.space.theta_norm, "rank_error": float(error[0])}

    def prior(self, request: PriorRequest) -> KnobPrior | None:
        return knob_prior(
            request, self._method, self._options, notes=lambda setting: self._foreseen(setting, self._eta(setting))
        )

    def _foreseen(self, setting: Setting, eta: float) -> dict[str, float]:
        """Predicted loss changes of one step of the whole length."""
        foreseen = self.space.plane([setting[MU]], [eta], setting[WEIGHT])
        return {f"predicted_{name}": float(value[0, 0]) for name, value in vars(foreseen).items()}

    def _eta(self, setting: Setting) -> float:
        if self._options.limit == "length":
            return setting[ETA]
        allowed = setting[DAMAGE] * self._retain_loss
        return min(float(self.space.eta_that_costs(allowed, setting[MU], setting[WEIGHT])[0]), self._options.eta[1])
