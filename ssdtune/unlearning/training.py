"""The one training loop: a few Adam steps on samples that were read and prepared once.

Notation: theta (P,) all parameters in model order; J_S the task's loss on a batch of set S; u what Adam makes of theta
with the gradient of

    w_r J_r + w_f min(J_f, cap),        w_f below 0 ascends.

A penalty (beta / 2) Σ o_p (theta_p - anchor_p)² is a proximal step after Adam's, as o spans many decades:
theta = (u + rate beta o anchor) / (1 + rate beta o). Running statistics stay as they are unless ``mode`` is train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import default_collate

from ssdtune.device import full_precision
from ssdtune.errors import DataError, ModelError
from ssdtune.files import content_hash
from ssdtune.nests import as_tuples, change
from ssdtune.studyfile import Positive
from ssdtune.task import Samples, Task, as_sample, move, sample_ids, shapes_of
from ssdtune.unlearning.method import Options, Params

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]

BACKWARD = 3  # slice passes of a slice that is differentiated
LOOK = 4  # steps from one look at the held-back slices to the next


class TrainingOptions(Options):
    """What a method that trains does not search.

    retain_slices, forget_slices : the most of each set that are trained on, drawn by ``seed`` and kept on the device.
    batch_size : slices of each set a step. clip : largest gradient norm (0.5 as in Xue et al., 2024).
    decay : whether the rate falls to 0 along half a cosine. mode : ``train`` lets running statistics move.
    """

    retain_slices: Count = 32
    forget_slices: Count = 32
    batch_size: Count = 4
    clip: Positive = 0.5
    decay: bool = True
    mode: Literal["eval", "train"] = "eval"


class Batch(NamedTuple):
    """Slices of one shape on the device; ``inputs`` as the network takes them."""

    inputs: Any
    target: Any
    slices: int


@dataclass(frozen=True, eq=False)
class Penalty:
    """The proximal term; ``weights`` and ``anchor`` are (P,) on the task's device."""

    weights: Tensor
    anchor: Tensor
    beta: float

    def pull(self, theta: Tensor, rate: float) -> None:
        """Move theta in place."""
        theta.lerp_(self.anchor, 1 / (1 + 1 / (rate * self.beta * self.weights)))  # finite for any beta


@dataclass(frozen=True, eq=False)
class Plan:
    """One training. ``mask`` : (P,) bool, where the *step* may go (a mask on the gradient would let momentum past it).

    stop_early : end when the held-back slices, looked at every ``LOOK`` steps, have stopped gaining.
    """

    steps: int
    rate: float
    retain_weight: float = 1.0
    forget_weight: float = 0.0
    cap: float = math.inf
    penalty: Penalty | None = None
    mask: Tensor | None = None
    stop_early: bool = False


class Trained(NamedTuple):
    """Parameters for ``Task.predict``, and their cost in slice passes.

    A training whose loss is not finite ends there, and all its parameters are NaN: whoever evaluates them finds output
    that is not finite at the first look, which is the worst score there is.
    """

    params: Params
    cost: float


class Trainer:
    """Trains copies of a task's model.

    sets : of the task, what is trained on. held_back : retain slices that are looked at, not trained on. ``unit`` : the
    rate at which a step of Adam's first kind, the rate in each of P coordinates, has length 1.

    Raises
    ------
    DataError : no retain slice is left beside those held back. ModelError : the retain loss or its gradient is not
    finite, or the gradient is zero everywhere.
    """

    def __init__(
        self, task: Task, options: TrainingOptions, *, sets: Sequence[str] = ("retain",), held_back: int = 0
    ) -> None:
        self.task, self.options = task, options
        self.unit = 1 / math.sqrt(sum(value.numel() for value in task.params.values()))
        quick = getattr(task.model, "quick", None)
        self._network = quick() if callable(quick) else None
        self._sets = {}
        for name in sets:
            samples = getattr(task, name)
            most = options.retain_slices if name == "retain" else options.forget_slices
            first = held_back if name == "retain" else 0
            chosen = _shuffled(len(samples), [*sample_ids(samples), name, "slices", str(options.seed)])
            if first >= len(chosen):
                what = f"{len(chosen)} retain slices, of which {first} are to be held back"
                raise DataError(what, task.name, "hold fewer back, or name more retain samples")
            if first:
                self._sets["held back"] = self._prepare(samples, sorted(chosen[:first]))
            self._sets[name] = self._prepare(samples, sorted(chosen[first : first + most]))
        self._check()

    def train(self, plan: Plan, seed: int, start: Params | None = None) -> Trained:
        """Train from ``start`` (default: the untouched model); plan, start and seed decide the result."""
        with self.chance(seed):
            return self._train(plan, seed, start)

    @contextmanager
    def chance(self, seed: int) -> Iterator[None]:
        """What layers draw in train mode (dropout) follows from the seeds; the generators then go on as before."""
        device = torch.device(self.task.device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(content_hash(["layers", str(seed), str(self.options.seed)])[:15], 16))
            yield

    def _train(self, plan: Plan, seed: int, start: Params | None) -> Trained:
        twin, options = self.task.twin(self.options.mode), self.options
        theta = self._flatten(twin, start)
        weights = {name: w for name, w in [("retain", plan.retain_weight), ("forget", plan.forget_weight)] if w}
        streams = {name: self.stream(name, seed) for name in weights}
        optimiser = torch.optim.Adam([theta], lr=plan.rate)
        cost, best = 0.0, math.inf
        for step in range(plan.steps):
            rate = plan.rate * (0.5 + 0.5 * math.cos(math.pi * step / plan.steps) if options.decay else 1.0)
            optimiser.param_groups[0]["lr"] = rate
            batches = {name: next(stream) for name, stream in streams.items()}
            cost += BACKWARD * sum(batch.slices for batch in batches.values())
            gradient = self.gradient(twin, batches, weights, plan.cap)
            if gradient is None:
                theta.fill_(math.nan)
                break
            theta.grad = gradient
            nn.utils.clip_grad_norm_(theta, options.clip)
            before = theta.clone() if plan.mask is not None else theta
            optimiser.step()
            if plan.penalty is not None:
                plan.penalty.pull(theta, rate)
            if plan.mask is not None:
                theta.copy_(torch.where(plan.mask, theta, before))
            if plan.stop_early and (step + 1) % LOOK == 0 and step + 1 < plan.steps:
                now, looked = self.mean_loss("held back", twin)
                cost += looked
                if not now < best:
                    break
                best = now
        return Trained(self.task.state(twin), cost)

    def gradient(
        self, model: nn.Module, batches: Mapping[str, Batch], weights: Mapping[str, float], cap: float = math.inf
    ) -> Tensor | None:
        """(P,) gradient of the weighted sum of the sets' losses, that of the forget set at most ``cap``.

        None where the sum is not finite.
        """
        losses = {name: self._loss(model, batch) for name, batch in batches.items()}
        if "forget" in losses:
            losses["forget"] = losses["forget"].clamp(max=cap)
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        return _gradient(loss, model) if torch.isfinite(loss) else None

    def flatten(self, params: Params) -> Tensor:
        """(P,) copy of named parameters, in model order, on the task's device."""
        return parameters_to_vector([params[name].to(self.task.device) for name in self.task.params])

    @full_precision()
    @torch.no_grad()
    def mean_loss(self, name: str, model: nn.Module) -> tuple[float, int]:
        """(mean loss over the slices of a prepared set, how many there are), in eval mode: to look is not to train."""
        batches, mode = list(self._in_order(name)), model.training
        slices = sum(batch.slices for batch in batches)
        model.eval()
        total = sum(float(self._loss(model, batch)) * batch.slices for batch in batches)
        model.train(mode)
        return total / slices, slices

    def _flatten(self, twin: nn.Module, start: Params | None) -> Tensor:
        """The twin's parameters as one vector, of which they are views from now on; statistics of ``start`` stay."""
        with torch.no_grad():
            for name, buffer in twin.named_buffers():
                if start is not None and name in start:
                    buffer.copy_(start[name])
        theta = self.flatten(self.task.params if start is None else start)
        vector_to_parameters(theta, twin.parameters())
        return theta

    def _loss(self, model: nn.Module, batch: Batch) -> Tensor:
        network = self._network
        if network is None:
            return self.task.loss(model(*batch.inputs), batch.target)
        params = network.ready(dict(model.named_parameters()))
        return self.task.loss(network(params, batch.inputs, network.maps(params, batch.inputs)), batch.target)

    def _prepare(self, samples: Samples, chosen: Sequence[int]) -> list[Batch]:
        """The chosen samples, those of one shape stacked."""
        shapes: dict[Any, list[Any]] = {}
        for sample in (as_sample(samples[index]) for index in chosen):
            shapes.setdefault(shapes_of(sample), []).append(sample)
        prepared = []
        for held in shapes.values():
            inputs, target = move(as_tuples(default_collate(held)), self.task.device)
            prepared.append(Batch(self._network.prepare(*inputs) if self._network else inputs, target, len(held)))
        return prepared

    def stream(self, name: str, seed: int) -> Iterator[Batch]:
        """Endless batches of one shape each; each slice once an epoch, in an order of the seed's."""
        size = self.options.batch_size
        for epoch in count():
            key = [name, str(seed), str(self.options.seed), str(epoch)]
            pieces = []
            for place, group in enumerate(self._sets[name]):
                rows = torch.tensor(_shuffled(group.slices, [*key, str(place)]), device=self.task.device)
                pieces += [(group, part) for part in rows.split(size)]
            for number in _shuffled(len(pieces), key):
                yield _rows(*pieces[number])

    def _in_order(self, name: str) -> Iterator[Batch]:
        for group in self._sets[name]:
            for part in torch.arange(group.slices, device=self.task.device).split(self.options.batch_size):
                yield _rows(group, part)

    def _check(self) -> None:
        twin = self.task.twin()
        for batch in self._in_order("retain"):
            loss = self._loss(twin, batch)
            gradient = _gradient(loss, twin)
            if not (torch.isfinite(loss) and gradient.isfinite().all()):
                raise ModelError(
                    "the retain loss or its gradient is not finite", self.task.name, "check model and data"
                )
            if gradient.any():
                return
        raise ModelError("the gradient of the retain loss is zero", self.task.name, "give a model that can be trained")


def _rows(group: Batch, rows: Tensor) -> Batch:
    inputs, target = change(lambda value: value[rows], (group.inputs, group.target))
    return Batch(inputs, target, len(rows))


def _gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """(P,) gradient; zero where the loss does not depend on a parameter."""
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in found])


def _shuffled(length: int, key: Sequence[str]) -> list[int]:
    """0 to length - 1 in an order of the key's."""
    seed = int(content_hash(key)[:15], 16)
    order: list[int] = torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
