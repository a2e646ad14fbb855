"""Task: the model, loss, splits and quality that everything above knows of the data.

A sample is ``(inputs, target)``: ``inputs`` is a tensor or a tuple of tensors for ``model(*inputs)``, ``target`` any
nest of tensors that ``loss`` and ``quality`` understand. A sample set is anything with ``__len__`` and ``__getitem__``
(a ``torch.utils.data.Dataset``, a list); it may also offer ``ids`` (one name a sample), ``fingerprint()`` (a content
hash) and ``in_order()`` (an iterator over all samples, where that is quicker than one by one).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import default_collate

from ssdtune.errors import DataError
from ssdtune.files import content_hash
from ssdtune.modules import kept_copy
from ssdtune.nests import move

Loss = Callable[[Any, Any], Tensor]
"""``loss(output, target)``: mean over the batch, a scalar."""

Quality = Callable[[Any, Any], "Tensor | Mapping[str, Tensor]"]
"""``quality(output, target)``: (batch,) values in [0, 1], or several named measures; the first is the quality q."""

Distance = Callable[[Any, Any, Any], Tensor]
"""``distance(output, reference, target)`` of two outputs, the second one constant: mean over the batch, a scalar.
``target`` is the batch's own, for what is not part of an output (a data range)."""

Noise = Callable[[Any, float, Callable[[Tensor], Tensor]], Any]
"""``noise(target, size, draw)``: the target with noise of a relative size; ``draw(like)`` is standard noise in a
tensor's shape."""


class Samples(Protocol):
    """A map-style sample set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Batch(NamedTuple):
    """Samples of one shape, stacked; ``indices`` are their places in the set."""

    indices: list[int]
    inputs: tuple[Tensor, ...]
    target: Any


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """One unlearning problem.

    Parameters
    ----------
    model : any torch module. A copy in eval mode is kept; the given object is never changed. Parameters of it that
        require no gradient are left alone, as published SSD does: in the copy they are buffers. A model that is frozen
        as a whole, as for inference, counts as not frozen.
    loss : the training loss, mean over the batch; its per-sample gradients make the Fisher information.
    retain, forget : sample sets given to the method (``forget`` holds the *known* forget samples).
    quality : per-sample quality in [0, 1], higher is better; see ``Quality``.
    evaluation : further sets to score: ``"retain"`` replaces the retain set by a held-out one, ``"unknown"`` holds
        forget samples not given to the method, ``"unseen"`` such that no model was trained on; others are recorded.
    oracle : a model trained without the forget set (same architecture), if there is one.
    floor : forget quality of a model that never saw the forget set, as a number, if known.
    floor_sources : named ways to work the floor out from the untouched model's measures, best first.
    forget_share : phi, share of the forget set in the training set; default |forget| / (|forget| + |retain|).
    known_share : share of the corrupted samples that ``forget`` holds.
    loss_name, name : for provenance.
    distance, noise : for methods that train towards other outputs than the targets (a teacher's, or targets with
        noise), where the loss does not say; see ``Distance`` and ``Noise``.
    without_model : (inputs) -> the output to be had without any model, e.g. the zero-filled image.

    Raises
    ------
    DataError : if the retain or the forget set is empty.
    ModelError : model or oracle is of a kind that cannot be unlearned; see ``ssdtune.modules``.
    """

    model: nn.Module
    loss: Loss
    retain: Samples
    forget: Samples
    quality: Quality
    evaluation: Mapping[str, Samples] = field(default_factory=dict)
    oracle: nn.Module | None = None
    floor: float | None = None
    floor_sources: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    forget_share: float | None = None
    known_share: float = 1.0
    loss_name: str = ""
    name: str = "task"
    device: torch.device | str = "cpu"
    distance: Distance | None = None
    noise: Noise | None = None
    without_model: Callable[[tuple[Tensor, ...]], Any] | None = None

    def __post_init__(self) -> None:
        for label in ("retain", "forget"):
            if len(getattr(self, label)) == 0:
                raise DataError(f"the {label} set is empty", self.name, f"name at least one {label} sample")
        for label in ("model", "oracle"):
            module = getattr(self, label)
            if module is not None:
                object.__setattr__(self, label, kept_copy(module, f"the {label} of {self.name}").to(self.device))
        if not self.loss_name:
            object.__setattr__(self, "loss_name", getattr(self.loss, "__name__", type(self.loss).__name__))

    @cached_property
    def params(self) -> dict[str, Tensor]:
        """All parameters of the untouched model that may change, detached, in model order. Buffers are not dampened."""
        return {name: value.detach() for name, value in self.model.named_parameters()}

    @property
    def phi(self) -> float:
        """Forget share of the training set, in (0, 1)."""
        return self.forget_share or len(self.forget) / (len(self.forget) + len(self.retain))

    @property
    def scored_sets(self) -> dict[str, Samples]:
        """Every set a trial is scored on: ``retain`` (held-out if given), ``forget``, then the others by name."""
        return {"retain": self.retain, "forget": self.forget, **self.evaluation}

    def predict(self, params: Mapping[str, Tensor] | None, inputs: tuple[Tensor, ...]) -> Any:
        """Model output on a batch with ``params`` in place of the model's own (None: the untouched model)."""
        return self.model(*inputs) if params is None else functional_call(self.model, dict(params), inputs)

    def twin(self, mode: Literal["eval", "train"] = "eval") -> nn.Module:
        """A copy of the untouched model to train, on the task's device; ``train`` lets running statistics move."""
        module = copy.deepcopy(self.model).train(mode == "train")
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return module

    def state(self, twin: nn.Module) -> dict[str, Tensor]:
        """What a twin has come to, for ``predict``: all its parameters, and the buffers that have move."""
        parameters = {name: value.detach().clone() for name, value in twin.named_parameters()}
        own = dict(self.model.named_buffers())
        buffers = {name: value for name, value in twin.named_buffers() if not torch.equal(value, own[name])}
        return parameters | {name: value.detach().clone() for name, value in buffers.items()}

    def state_dict(self, params: Mapping[str, Tensor]) -> dict[str, Any]:
        """The given model's whole state dict with ``params`` in it: buffers, and every name of a tied parameter."""
        names: dict[int, str] = {}
        for name, value in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(value), name)
        state = self.model.state_dict(keep_vars=True)
        chosen = {name: params.get(names.get(id(value), name), value) for name, value in state.items()}
        return {name: v.detach().clone() if isinstance(v, Tensor) else v for name, v in chosen.items()}

    def measures(self, output: Any, target: Any) -> dict[str, Tensor]:
        """Named per-sample measures, each (batch,); the first is the quality q."""
        values = self.quality(output, target)
        return {"quality": values} if isinstance(values, Tensor) else dict(values)

    @cached_property
    def identity(self) -> dict[str, str]:
        """Content hashes of everything a result depends on: model, loss, and each sample set by name."""
        sets = {"fisher.retain": self.retain, "fisher.forget": self.forget, **self.scored_sets}
        hashes = {f"data.{name}": fingerprint(samples) for name, samples in sets.items()}
        oracle = {"oracle": model_hash(self.oracle)} if self.oracle is not None else {}
        return {"model": model_hash(self.model), "loss": self.loss_name, **oracle, **hashes}


def batches(samples: Samples, batch_size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """Stream a set in order, stacking neighbours of equal shape into batches of at most ``batch_size``.

    At most ``batch_size`` samples are held at once, so a set may be larger than memory.
    """
    indices: list[int] = []
    held: list[Any] = []
    shape: Any = None
    for index, sample in enumerate(map(as_sample, each(samples))):
        this_shape = shapes_of(sample)
        if held and (len(held) == batch_size or this_shape != shape):
            yield _stack(indices, held, device)
            indices, held = [], []
        shape = this_shape
        indices.append(index)
        held.append(sample)
    if held:
        yield _stack(indices, held, device)


def stream(samples: Samples, batch_size: int, seed: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """Endless random batches of at most ``batch_size`` neighbours of equal shape; each sample once an epoch.

    The order depends on ``seed``, the epoch and the samples' names alone.
    """
    for epoch in count():
        key = content_hash(["stream", str(seed), str(epoch), *sample_ids(samples)])
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(int(key[:15], 16))).tolist()
        for batch in batches(Chosen(samples, order), batch_size, device):
            yield batch._replace(indices=[order[place] for place in batch.indices])


@dataclass(frozen=True)
class Chosen:
    """Some samples of a set, by their places and in their order: a set itself, under the names of the whole."""

    samples: Samples
    order: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int, /) -> Any:
        return self.samples[self.order[index]]

    @property
    def ids(self) -> list[str]:
        return list(map(sample_ids(self.samples).__getitem__, self.order))

    @property
    def volumes(self) -> list[str]:
        return list(map(sample_volumes(self.samples).__getitem__, self.order))

    def fingerprint(self) -> str:
        return content_hash(["part", fingerprint(self.samples), *map(str, self.order)])


def as_sample(item: Any) -> tuple[tuple[Any, ...], Any]:
    """(inputs, target) with the inputs as a tuple."""
    inputs, target = item
    return (inputs if isinstance(inputs, tuple) else (inputs,)), target


def each(samples: Samples) -> Iterator[Any]:
    """All samples in order."""
    quick = getattr(samples, "in_order", None)
    return quick() if callable(quick) else (samples[index] for index in range(len(samples)))


def sample_ids(samples: Samples) -> list[str]:
    """The set's own ids, or its indices as text."""
    ids = getattr(samples, "ids", None)
    return list(map(str, range(len(samples)) if ids is None else ids))


def sample_volumes(samples: Samples) -> list[str]:
    """The volume of each sample: the set's ``volumes``, else that of its id."""
    return list(getattr(samples, "volumes", None) or map(volume_of, sample_ids(samples)))


def volume_of(name: str) -> str:
    """What stands before the last ``:`` of a sample's id; "" where there is none."""
    return name.rpartition(":")[0]


def fingerprint(samples: Samples) -> str:
    """Content hash of a sample set: its own ``fingerprint()``, else every sample's tensors in order."""
    own = getattr(samples, "fingerprint", None)
    return str(own()) if callable(own) else content_hash(p for sample in each(samples) for p in _tensor_parts(sample))


def model_hash(model: nn.Module) -> str:
    """Content hash of a model's state: names, shapes, dtypes and values of parameters and buffers."""
    return content_hash(part for name, value in model.state_dict().items() for part in (name, *_tensor_parts(value)))


def _stack(indices: list[int], held: list[Any], device: torch.device | str) -> Batch:
    inputs, target = default_collate(held)
    return Batch(indices, tuple(move(inputs, device)), move(target, device))


def shapes_of(nest: Any) -> Any:
    """Shapes of a nest of tensors, comparable: samples with equal ones can be stacked."""
    if isinstance(nest, Tensor):
        return tuple(nest.shape)
    if isinstance(nest, Mapping):
        return tuple((key, shapes_of(value)) for key, value in nest.items())
    if isinstance(nest, Sequence) and not isinstance(nest, str):
        return tuple(shapes_of(value) for value in nest)
    return type(nest).__name__


def _tensor_parts(nest: Any) -> Iterator[bytes | memoryview | str]:
    if isinstance(nest, Tensor):
        value = nest.detach().cpu().contiguous()
        yield f"{value.dtype}{tuple(value.shape)}"
        yield value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b""
    elif isinstance(nest, Mapping):
        for key, value in nest.items():
            yield str(key)
            yield from _tensor_parts(value)
    elif isinstance(nest, Sequence) and not isinstance(nest, str):
        for value in nest:
            yield from _tensor_parts(value)
    else:
        yield repr(nest)
