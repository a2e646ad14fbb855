"""One engine for the gradients of any task: one row a unit, many units at once where they are small.

Notation: P parameters in ``Layout`` order; a unit's row is g = d loss / d theta, (P,) float32. Vectorised rows come
from ``vmap`` over ``grad`` (torch.func), looped ones from ``torch.autograd.grad``; both are of the same function. Which
way is taken follows from sizes alone (``_CHUNK``), so that the same task gives the same bits every time. torch's
convolutions take few units in another order than many; an activation near 0, where a LeakyReLU bends, makes that
rounding a per mille of a gradient. So never fewer than ``_FEWEST`` go together, and a unit's row has the same bits
whichever others go with it: parts of a set (``parts``) add up to the whole.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from ssdtune.device import full_precision, trim_heap
from ssdtune.errors import ModelError
from ssdtune.fisher.embeddings import Bottleneck, find_bottleneck
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.units import Unit, Units, stack
from ssdtune.task import Batch, Task

# peak memory of a unit: times the bytes of its saved activations, and bytes a parameter (gradient and row); the largest
# that were measured for VarNets, ResNets and perceptrons of several sizes on a CPU
_LOOPED, _VECTORISED = (1.8, 8.0), (3.2, 10.0)
# What goes together, by kind of device: at most so many bytes, of models of at most so many parameters. On one core
# VarNets and ResNet-9s within both gain a fifth to two thirds (most at the smallest); a perceptron of 1.6 M parameters
# or a ResNet-9 of 6.6 M takes up to twice as long, as their rows are copied once more. GPUs: a guess.
_CHUNK = {"cpu": (2.0**30, 2**19), "cuda": (2.0**31, 2**25)}
_FEWEST, _MOST = 16, 64  # units; 16 fill the widest vector of a CPU, which with fewer sums in another order
_PADDED = 4  # units of a shape, of which so many are made up to the fewest; fewer would take several times as long


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

    task : supplies model, loss and device. workspace : bytes that one pass may take beside the model. most : units at
    once; 1 loops. ``warnings`` says if a single unit takes more than the workspace, which nothing can help. ``home`` is
    the device that rows are on. ``failure`` says why vectorising was given up, if it was.
    """

    task: Task
    workspace: float = 2.0**30
    most: int = _MOST

    def __post_init__(self) -> None:
        self.layout = Layout.of(self.task.params)
        self._model, self._leaves = _twin(self.task.model)
        self.bottleneck: Bottleneck | None = find_bottleneck(self._model)
        self.warnings: list[str] = []
        self.failure = ""
        self._saved: dict[Any, float] = {}  # bytes of activations of one unit, by shapes
        # Apple's GPUs have no float64, in which rows are summed
        device = torch.device(self.task.device)
        self.home = torch.device("cpu") if device.type == "mps" else device
        self._together, largest = _CHUNK.get(device.type, _CHUNK["cuda"])
        self._vectorise = self.layout.parameters <= largest
        self._rows = torch.empty(0)

    def stream(self, units: Units) -> Iterator[GradientBlock]:
        """Blocks of rows in the units' order; neighbours of equal shapes are taken together.

        Raises ModelError: the loss is not one number.
        """
        with self.bottleneck.watched() if self.bottleneck else nullcontext():
            for _, alike in groupby(units, lambda unit: unit.shapes):
                yield from self._blocks_of(alike)

    def _blocks_of(self, alike: Iterator[Unit]) -> Iterator[GradientBlock]:
        """Blocks of units of equal shapes; the first by itself shows how much memory one takes."""
        waiting: list[Unit] = []
        block: GradientBlock | None
        while waiting := waiting or list(islice(alike, 1)):
            with full_precision():
                alone = None if waiting[0].shapes in self._saved else self._looped(waiting[0])
                most = self._chunk(waiting[0])
                if most > 1:  # one more than go together shows whether these are the last
                    waiting += islice(alike, max(most + 1 - len(waiting), 0))
                if most == 1 or len(waiting) < _PADDED:
                    number, block = 1, alone or self._looped(waiting[0])
                else:
                    number = len(waiting) if len(waiting) <= most else most - _FEWEST + 1
                    block = self._try_vectorised(waiting[:number])
            if block is not None:
                del waiting[:number]
                yield block

    def release(self) -> None:
        """Give the memory of the last block back."""
        self._rows = torch.empty(0)
        trim_heap()

    def _chunk(self, unit: Unit) -> int:
        """How many units like this one, whose size is known, may go together."""
        if not self._vectorise or unit.shapes is None:
            return 1
        fit = min(self._together, self.workspace) // self._bytes(_VECTORISED, unit.shapes)
        most = min(int(fit), self.most)
        return most if most >= 2 * _FEWEST - 1 else 1  # so that what is left at the end can be shared out

    def _try_vectorised(self, units: Sequence[Unit]) -> GradientBlock | None:
        """Vectorised; None if that cannot be done, and is not tried again (or for want of memory with fewer units).

        torch says so by RuntimeErrors of many wordings. If one was the task's own, the loop meets it again.
        """
        try:
            return self._vectorised(units)
        except torch.OutOfMemoryError:
            self.workspace /= 2
        except RuntimeError as reason:
            self._vectorise = False
            self.failure = f"{type(reason).__name__}: {str(reason).partition(chr(10))[0]}"
        return None

    def _vectorised(self, units: Sequence[Unit]) -> GradientBlock:
        number = len(units)
        units = [*units, *[units[-1]] * (_FEWEST - number)]
        inputs, target = stack(units)
        per_unit = vmap(grad_and_value(self._functional_loss, has_aux=True), in_dims=(None, 0, 0))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop.*")
            grads, (losses, embedding) = per_unit(self.task.params, inputs, target)
        rows = self._space(len(units))
        for name, place in zip(self.layout.names, self.layout.slices, strict=True):
            rows[:, place] = grads.pop(name).reshape(len(units), -1)
        return _block(units[:number], rows[:number], losses[:number], tuple(each[:number] for each in embedding))

    def _looped(self, unit: Unit) -> GradientBlock:
        """A unit by itself: the sum over its parts by their shares in the mean loss."""
        rows = self._space(1).zero_()
        found = [
            self._add_gradient(unit.shapes, part, share, rows[0])
            for part, share in zip(unit.parts, unit.shares, strict=True)
        ]
        losses, embeddings = zip(*found, strict=True)
        embedding = tuple(torch.stack(part).sum(0, keepdim=True) for part in zip(*embeddings, strict=True))
        return _block([unit], rows, torch.stack(losses).sum(0, keepdim=True), embedding)

    def _add_gradient(self, shapes: Any, part: Batch, share: float, row: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Add ``share`` times a batch's gradient to ``row``; ``share`` times its loss and embedding."""
        if shapes in self._saved:
            loss, embedding = self._judge(self._model(*part.inputs), part.target)
        else:
            saved = _SavedBytes(self._leaves)
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
                loss, embedding = self._judge(self._model(*part.inputs), part.target)
            self._note_size(shapes, saved.bytes)
        if loss.requires_grad:
            grads = torch.autograd.grad(loss, self._leaves, allow_unused=True)
            for place, grad in zip(self.layout.slices, grads, strict=True):
                if grad is not None:
                    row[place].add_(grad.reshape(-1), alpha=share)
        return share * loss.detach(), tuple(share * value for value in embedding)

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
            self._rows = torch.empty(units, self.layout.parameters, dtype=torch.float32, device=self.home)
        return self._rows[:units]

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
    together = embedding[0].float().cpu().numpy() if embedding else None
    return GradientBlock([unit.number for unit in units], rows, losses.detach().cpu().double().numpy(), together)
