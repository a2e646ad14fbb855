"""The one training loop: a few Adam steps on samples that were read and prepared once (``sets``).

Notation: theta (P,) all parameters in model order; J_S the task's loss on a batch of set S; u what Adam makes of theta
with the gradient of

    Σ_terms w min(aim(theta; batch), cap),        a weight w below 0 ascends.

Penalties are proximal steps after Adam's. A quadratic one, (beta / 2) Σ o_p (theta_p - anchor_p)², as o spans many
decades: theta = (u + rate beta o anchor) / (1 + rate beta o). The norm gamma |theta|_1 as a soft threshold of rate
gamma, as Adam on its gradient moves every weight by the rate, whatever gamma. Running statistics stay as they are
unless ``mode`` is train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ssdtune.device import full_precision
from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.files import content_hash
from ssdtune.task import Task, sample_ids
from ssdtune.unlearning.aims import Kept
from ssdtune.unlearning.method import BACKWARD, Params
from ssdtune.unlearning.plan import FASTEST, Plan, Term, TrainingOptions
from ssdtune.unlearning.sets import Batch, TrainingSet, shuffled

LOOK = 4  # steps from one look at the held-back slices to the next


class Trained(NamedTuple):
    """Parameters for ``Task.predict``, and their cost in slice passes; those at the plan's checkpoints, by step.

    A training whose loss is not finite ends there, and all its parameters are NaN: whoever evaluates them finds output
    that is not finite at the first look, which is the worst score there is.
    """

    params: Params
    cost: float
    checkpoints: Mapping[int, tuple[Params, float]] = MappingProxyType({})


class Trainer:
    """Trains copies of a task's model.

    sets : of the task, what is trained on. held_back : retain slices that are looked at, not trained on. quick :
    whether the model's quick form is differentiated, where it has one; without, modules are called and can be watched.
    ``unit`` : the rate at which a step of Adam's first kind, the rate in each of P coordinates, has length 1.

    Raises
    ------
    DataError : no retain slice is left beside those held back. ConfigError : running statistics of one slice.
    ModelError : the model cannot be trained (``untrainable``), its loss or gradient is not finite, or that is zero.
    """

    def __init__(
        self,
        task: Task,
        options: TrainingOptions,
        *,
        sets: Sequence[str] = ("retain",),
        held_back: int = 0,
        quick: bool = True,
    ) -> None:
        if (fault := untrainable(task)) is not None:
            raise ModelError(f"the model lacks {fault}", task.name, "choose a method that does not train")
        self.task, self.options = task, options
        self.unit = 1 / math.sqrt(sum(value.numel() for value in task.params.values()))
        form = getattr(task.model, "quick", None) if quick else None
        self.network = form() if callable(form) else None
        self._sets: dict[str, TrainingSet] = {}
        for name in sets:
            samples = getattr(task, name)
            chosen = shuffled(len(samples), [*sample_ids(samples), name, "slices", str(options.seed)])
            if name == "retain":
                chosen = chosen[: allowed(len(chosen), options)]
                if not chosen:
                    what = f"the fraction {options.retain_fraction:g} of {len(samples)} retain slices leaves none"
                    raise DataError(what, "method.retain_fraction", "take a larger one, or name more retain samples")
                if held_back >= len(chosen):
                    what = f"{len(chosen)} retain slices, of which {held_back} are to be held back"
                    raise DataError(what, task.name, "hold fewer back, or name more retain samples")
                if held_back:
                    self._sets["held back"] = self._open(samples, sorted(chosen[:held_back]))
                chosen = chosen[held_back:]
            most = options.retain_slices if name == "retain" else options.forget_slices
            self._sets[name] = self._open(samples, sorted(chosen if most == "all" else chosen[:most]))
        for name in sets if options.mode == "train" else ():
            self._check_statistics(name)
        self._check(sets[0])

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
        terms = [term for term in plan.terms if term.weight]
        streams = {term.set: self.stream(term.set, seed) for term in terms}
        optimiser = torch.optim.Adam([theta], lr=plan.rate)
        cost, best, kept = 0.0, math.inf, {}
        for step in range(plan.steps if terms else 0):
            rate = plan.rate * (0.5 + 0.5 * math.cos(math.pi * step / plan.steps) if options.decay else 1.0)
            optimiser.param_groups[0]["lr"] = rate = min(rate, FASTEST)
            now = [term for term in terms if term.when is None or term.when(step)]
            batches = {name: next(streams[name]) for name in dict.fromkeys(term.set for term in now)}
            cost += BACKWARD * sum(batches[term.set].slices for term in now)
            gradient = self.gradient(twin, [(term, batches[term.set]) for term in now])
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
                theta.copy_(torch.where(plan.mask > 0, before.lerp(theta, plan.mask.to(theta.dtype)), before))
            if step + 1 in plan.checkpoints:
                kept[step + 1] = self.task.state(twin), cost
            if plan.stop_early and (step + 1) % LOOK == 0 and step + 1 < plan.steps:
                found, looked = self.mean_loss("held back", twin)
                cost += looked
                if not found < best:
                    break
                best = found
        return Trained(self.task.state(twin), cost, kept)

    def gradient(self, model: nn.Module, terms: Sequence[tuple[Term, Batch]]) -> Tensor | None:
        """(P,) gradient of the weighted sum of the terms; None where the sum is not finite."""
        parts = [term.weight * (term.aim or self.loss)(model, batch).clamp(max=term.cap) for term, batch in terms]
        loss = torch.stack(parts).sum()
        return _gradient(loss, model) if torch.isfinite(loss) else None

    def flatten(self, params: Params) -> Tensor:
        """(P,) copy of named parameters, in model order, on the task's device."""
        return parameters_to_vector([params[name].to(self.task.device) for name in self.task.params])

    def slices(self, name: str) -> int:
        """How many slices of a set are trained on."""
        return len(self._sets[name])

    @full_precision()
    @torch.no_grad()
    def mean_loss(self, name: str, model: nn.Module) -> tuple[float, int]:
        """(mean loss over the slices of a prepared set, how many there are), in eval mode: to look is not to train."""
        batches, mode = list(self.in_order(name)), model.training
        slices = sum(batch.slices for batch in batches)
        model.eval()
        total = sum(float(self.loss(model, batch)) * batch.slices for batch in batches)
        model.train(mode)
        return total / slices, slices

    @full_precision()
    @torch.no_grad()
    def outputs(self, name: str, model: nn.Module) -> Kept:
        """What a model gives for every slice of a set, in eval mode; kept for aims."""
        model.eval()
        return Kept((batch, self.output(model, batch)) for batch in self.in_order(name))

    @full_precision()
    def mean_gradient(self, name: str) -> Tensor:
        """(P,) gradient of the untouched model's mean loss over the slices of a set."""
        twin = self.task.twin()
        parts = [batch.slices * _gradient(self.loss(twin, batch), twin) for batch in self.in_order(name)]
        return torch.stack(parts).sum(0) / self.slices(name)

    def module(self, params: Params) -> nn.Module:
        """The task's network, in eval mode, with these parameters and statistics."""
        twin = self.task.twin()
        self._flatten(twin, params)
        return twin

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The task's loss against the samples' own targets."""
        return self.task.loss(self.output(model, batch), batch.target)

    def output(self, model: nn.Module, batch: Batch) -> Any:
        """A differentiable forward pass, through the quick form where there is one."""
        network = self.network
        if network is None:
            return model(*batch.inputs)
        params = network.ready(dict(model.named_parameters()))
        return network(params, batch.inputs, network.maps(params, batch.inputs))

    def respond(self, inputs: tuple[Tensor, ...]) -> Any:
        """The untouched model's output for inputs as the task gives them, differentiable in these."""
        network = self.network
        if network is None:
            return self.task.model(*inputs)
        params, sample = network.ready(self.task.params), network.prepare(*inputs)
        return network(params, sample, network.maps(params, sample))

    def stream(self, name: str, seed: int) -> Iterator[Batch]:
        """Endless batches of one shape each; each slice once an epoch, in an order of the seed's."""
        return self._sets[name].stream([name, str(seed), str(self.options.seed)])

    def in_order(self, name: str, raw: bool = False) -> Iterator[Batch]:
        """Every slice of a set once; ``raw`` : with the inputs as the task gives them, read anew."""
        return self._sets[name].in_order(raw)

    def _flatten(self, twin: nn.Module, start: Params | None) -> Tensor:
        """The twin's parameters as one vector, of which they are views from now on; statistics of ``start`` stay."""
        with torch.no_grad():
            for name, buffer in twin.named_buffers():
                if start is not None and name in start:
                    buffer.copy_(start[name])
        theta = self.flatten(self.task.params if start is None else start)
        vector_to_parameters(theta, twin.parameters())
        return theta

    def _open(self, samples: Any, chosen: Sequence[int]) -> TrainingSet:
        return TrainingSet(
            samples,
            chosen,
            self.network.prepare if self.network is not None else lambda *inputs: inputs,
            self.task.device,
            size=self.options.batch_size,
            never_one=self.options.mode == "train",
        )

    def _check(self, name: str) -> None:
        twin = self.task.twin()
        for batch in self.in_order(name):
            loss = self.loss(twin, batch)
            gradient = _gradient(loss, twin)
            if not (torch.isfinite(loss) and gradient.isfinite().all()):
                what = f"the {name} loss or its gradient is not finite"
                raise ModelError(what, self.task.name, "check model and data")
            if gradient.any():
                return
        raise ModelError(f"the gradient of the {name} loss is zero", self.task.name, "give a model that can be trained")

    def _check_statistics(self, name: str) -> None:
        """A layer may not take a batch of one slice in train mode, which a set can end in."""
        for batch in self.in_order(name):
            if batch.slices == 1:
                try:
                    self.output(self.task.twin("train"), batch)
                except ValueError as reason:
                    what = f"{name} batches of one slice have no running statistics ({str(reason).splitlines()[0]})"
                    todo = "take mode = 'eval', or a batch_size above 1 and more slices of each size"
                    raise ConfigError(what, "method.mode", todo) from reason
                return


def untrainable(task: Task) -> str | None:
    """What a model lacks to be trained, in words after "lacks"; None if nothing."""
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in task.params.values()})
    return f"parameters of one floating-point type (they are {' and '.join(kinds)})" if len(kinds) > 1 else None


def allowed(length: int, options: TrainingOptions) -> int:
    """How many of the retain samples a training may draw from."""
    return int(options.retain_fraction * length + 1e-9)


def _gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """(P,) gradient; zero where the loss does not depend on a parameter."""
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in found])
