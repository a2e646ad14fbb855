"""One engine for the gradients of any task: one row a unit, vectorised or looped, whichever is faster here.

Notation: P parameters in ``Layout`` order; a unit's row is g = d loss / d theta, (P,) float32. Vectorised rows come
from ``vmap`` over ``grad`` (torch.func), looped ones from ``torch.autograd.grad``; both are of the same function.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from ssdtune.device import trim_heap
from ssdtune.errors import ConfigError, ModelError
from ssdtune.fisher.embeddings import Bottleneck, find_bottleneck
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.pace import Method, Pace, Step
from ssdtune.fisher.units import Unit, Units, stack
from ssdtune.task import Batch, Task

# peak memory of a unit: times the bytes of its saved activations, and bytes a parameter (gradient and row); the largest
# that were measured for VarNets, ResNets and perceptrons of several sizes on a CPU
_LOOPED, _VECTORISED = (1.8, 8.0), (3.2, 10.0)
_HEAP = 2**25  # bytes of one parameter's gradients in a chunk, above which each chunk asks the system for fresh pages
_LARGE = 1 / 16  # of the workspace: chunks above this leave holes in the heap that count
_FILLS_CPU = 0.15  # seconds a gradient from which on it alone keeps all cores of a CPU busy


class GradientBlock(NamedTuple):
    """Gradients of some units; ``rows`` is overwritten by the next block.

    numbers : the units. rows : (k, P) float32 on the engine's ``home``. losses : (k,) float64.
    embeddings : (k, d) float32 bottleneck activations, or None.
    """

    numbers: list[int]
    rows: Tensor
    losses: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None


@dataclass(eq=False)
class GradientEngine:
    """Streams the gradients of a task's units; the model is never changed.

    task : supplies model, loss and device. workspace : bytes that one pass may take beside the model.
    method : ``"auto"`` times both ways on the first units; ``"vectorised"`` and ``"loop"`` insist. ``warnings`` says if
    a single unit takes more than the workspace, which nothing can help. ``home`` is the device that rows are on.
    """

    task: Task
    workspace: float = 2.0**30
    method: Method = "auto"

    def __post_init__(self) -> None:
        self.pace = Pace(self.method, _FILLS_CPU if torch.device(self.task.device).type == "cpu" else math.inf)
        self.layout = Layout.of(self.task.params)
        self._model, self._leaves = _twin(self.task.model)
        self.bottleneck: Bottleneck | None = find_bottleneck(self._model)
        self.warnings: list[str] = []
        self._last_chunk = (1, 0.0)  # units that went together, and their bytes
        self._saved: dict[Any, float] = {}  # bytes of activations of one unit, by shapes
        # Apple's GPUs have no float64, in which rows are summed
        device = torch.device(self.task.device)
        self.home = torch.device("cpu") if device.type == "mps" else device
        largest = max((place.stop - place.start for place in self.layout.slices), default=1)
        self._quick = max(1.0, _HEAP / (4 * largest)) if device.type == "cpu" else math.inf
        self._rows = torch.empty(0, self.layout.parameters)

    @property
    def seconds_per_gradient(self) -> float:
        """Of the faster way, as measured so far."""
        return min(self.pace.seconds.values(), default=0.0)

    def stream(self, units: Units) -> Iterator[GradientBlock]:
        """Blocks of rows in the units' order; neighbours of equal shapes are taken together.

        Raises
        ------
        ModelError : the loss is not one number.
        ConfigError : vectorising was insisted on and fails.
        """
        waiting: list[Unit] = []
        with self.bottleneck.watched() if self.bottleneck else nullcontext():
            for unit in units:
                if waiting and (unit.shapes is None or unit.shapes != waiting[0].shapes):
                    yield from self._take(waiting, everything=True)
                waiting.append(unit)
                yield from self._take(waiting, everything=False)
            yield from self._take(waiting, everything=True)

    def release(self) -> None:
        """Give the memory of the last block back."""
        self._rows = torch.empty(0, self.layout.parameters)
        trim_heap()

    def _take(self, waiting: list[Unit], everything: bool) -> Iterator[GradientBlock]:
        """Work off ``waiting``, in full steps unless ``everything``."""
        while waiting:
            step = self.pace.next_step(self._limit(waiting[0]))
            if not step.vectorised:
                step = step._replace(size=min(step.size, self._loop_rows(waiting[0])))
            if len(waiting) < step.size and not everything:
                return
            self._make_room(step, waiting[0].shapes)
            part = waiting[: step.size]
            start = time.perf_counter()
            try:
                block = self._vectorised(part) if step.vectorised else self._looped(part)
            except Exception as reason:
                if not step.vectorised:
                    raise
                if isinstance(reason, torch.OutOfMemoryError):
                    self.workspace /= 2
                else:
                    self._without_vectorising(reason)
                continue
            self.pace.record(step, len(part), time.perf_counter() - start)
            del waiting[: step.size]
            yield block

    def _without_vectorising(self, reason: Exception) -> None:
        why = f"{type(reason).__name__}: {str(reason).splitlines()[0] if str(reason) else ''}"
        if self.method == "vectorised":
            raise ConfigError(f"vectorised gradients fail ({why})", self.task.name, 'use method="auto"') from reason
        self.pace.give_up(why)

    def _vectorised(self, units: Sequence[Unit]) -> GradientBlock:
        inputs, target = stack(units)
        per_unit = vmap(grad_and_value(self._functional_loss, has_aux=True), in_dims=(None, 0, 0))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop.*")
            grads, (losses, embedding) = per_unit(self.task.params, inputs, target)
        rows = self._space(len(units))
        for name, place in zip(self.layout.names, self.layout.slices, strict=True):
            rows[:, place] = grads.pop(name).reshape(len(units), -1)
        return _block(units, rows, losses, embedding)

    def _looped(self, units: Sequence[Unit]) -> GradientBlock:
        rows = self._space(len(units))
        results = [self._gradient(unit, row) for unit, row in zip(units, rows, strict=True)]
        losses, embeddings = zip(*results, strict=True)
        return _block(
            units, rows, torch.stack(losses), tuple(torch.stack(part) for part in zip(*embeddings, strict=True))
        )

    def _gradient(self, unit: Unit, row: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Write the unit's gradient to ``row``; its loss and embedding."""
        if len(unit.parts) == 1:
            return self._part_gradient(unit.shapes, unit.parts[0], 1.0, row, first=True)
        results = [
            self._part_gradient(None, part, share, row, first=number == 0)
            for number, (part, share) in enumerate(zip(unit.parts, unit.shares, strict=True))
        ]
        losses, embeddings = zip(*results, strict=True)
        return torch.stack(losses).sum(), tuple(torch.stack(part).sum(0) for part in zip(*embeddings, strict=True))

    def _part_gradient(
        self, shapes: Any, part: Batch, share: float, row: Tensor, first: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Put (or add) ``share`` times a batch's gradient into ``row``; ``share`` times its loss and embedding."""
        if shapes in self._saved:
            loss, embedding = self._judge(self._model(*part.inputs), part.target)
        else:
            saved = _SavedBytes(self._leaves)
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
                loss, embedding = self._judge(self._model(*part.inputs), part.target)
            self._note_size(shapes, saved.bytes)
        grads: Sequence[Tensor | None] = [None] * len(self._leaves)
        if loss.requires_grad:
            grads = torch.autograd.grad(loss, self._leaves, allow_unused=True)
        self._write(row, grads, share, first)
        return share * loss.detach(), tuple(share * value for value in embedding)

    def _write(self, row: Tensor, grads: Sequence[Tensor | None], share: float, first: bool) -> None:
        """Put, or if not ``first`` add, ``share`` times the gradients into a row; None is a parameter not used."""
        for place, grad in zip(self.layout.slices, grads, strict=True):
            if first:
                row[place] = 0.0 if grad is None else grad.reshape(-1)
                if share != 1.0:
                    row[place] *= share
            elif grad is not None:
                row[place].add_(grad.reshape(-1), alpha=share)

    def _functional_loss(
        self, params: dict[str, Tensor], inputs: tuple[Tensor, ...], target: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self._judge(functional_call(self._model, params, inputs), target)

    def _judge(self, output: Any, target: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss, and the embedding if there is one (vmap returns tuples of tensors, but no None)."""
        loss = self.task.loss(output, target)
        if loss.numel() != 1:
            what = f"the loss gives shape {tuple(loss.shape)}, not one number a batch"
            raise ModelError(what, self.task.loss_name, "take the mean over the batch")
        embedding = self.bottleneck.take() if self.bottleneck else None
        return loss.reshape(()), () if embedding is None else (embedding,)

    def _space(self, units: int) -> Tensor:
        if len(self._rows) < units:
            self._rows = torch.empty(0)  # free the old one first
            self._rows = torch.empty(units, self.layout.parameters, device=self.home)
        return self._rows[:units]

    def _limit(self, unit: Unit) -> int:
        """Units of these shapes that memory allows to vectorise: each takes activations, gradient and row."""
        if unit.shapes is None:
            return 0
        if unit.shapes not in self._saved:
            return 1  # the first of its shapes is looped, which shows its size
        return int(min(self.workspace // max(self._bytes(_VECTORISED, unit.shapes), 1), self._quick))

    def _loop_rows(self, unit: Unit) -> int:
        if unit.shapes not in self._saved:
            return 1
        rest = self.workspace - self._bytes(_LOOPED, unit.shapes)
        return 1 + max(0, int(rest // (4 * self.layout.parameters)))

    def _make_room(self, step: Step, shapes: Any) -> None:
        """Give the memory of larger chunks back before their size changes."""
        chunk = step.size if step.vectorised else 1
        if chunk != self._last_chunk[0]:
            if self._last_chunk[1] > _LARGE * self.workspace:
                trim_heap()
            self._last_chunk = chunk, chunk * self._bytes(_VECTORISED, shapes) if shapes in self._saved else 0.0

    def _bytes(self, kind: tuple[float, float], shapes: Any) -> float:
        """Peak memory of one unit of these shapes."""
        return kind[0] * self._saved[shapes] + kind[1] * self.layout.parameters

    def _note_size(self, shapes: Any, saved: float) -> None:
        self._saved[shapes] = saved
        needed = self._bytes(_LOOPED, shapes)
        if needed > self.workspace and not self.warnings:
            gib = f"{needed / 2**30:.2g} GiB, the memory budget leaves {self.workspace / 2**30:.2g} GiB"
            self.warnings.append(f"one gradient alone takes about {gib}: it is exceeded")


def _twin(model: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """A model that shares all tensors with ``model``, and its parameters, which can be differentiated."""
    params: dict[int, Any] = {id(value): nn.Parameter(value.detach()) for value in model.parameters()}
    twin = copy.deepcopy(model, params | {id(value): value for value in model.buffers()})
    return twin, list(twin.parameters())


class _SavedBytes:
    """Counts the distinct storages that autograd keeps for a backward pass, without the parameters."""

    def __init__(self, leaves: Any) -> None:
        self._known = {leaf.untyped_storage().data_ptr() for leaf in leaves}
        self.bytes = 0.0

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        # not the tensor itself: one that is its own function's output would keep itself alive
        return tensor.detach()

    def unpack(self, tensor: Tensor) -> Tensor:
        return tensor


def _block(units: Sequence[Unit], rows: Tensor, losses: Tensor, embedding: tuple[Tensor, ...]) -> GradientBlock:
    # .cpu() waits for the device, so that the caller's clock sees the whole work
    together = embedding[0].float().cpu().numpy() if embedding else None
    return GradientBlock([unit.number for unit in units], rows, losses.detach().cpu().double().numpy(), together)
