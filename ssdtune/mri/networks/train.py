"""Train a reconstruction model with Adam, resumable to the bit.

The recipe is fastMRI's VarNet example: constant learning rate, divided by 10 for the last fifth of the epochs (there
epoch 40 of 50), a new mask for every slice and epoch, fixed ones for validation. Which samples make a batch depends on
the seed and the epoch's number alone, and a mask on the slice's name and the epoch's number, so a training that is
stopped and taken up again ends (on the CPU, to the last bit) where an uninterrupted one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.files import content_hash
from ssdtune.mri.networks.mixed import check_precision, mixed_precision
from ssdtune.mri.networks.models import save_new_model
from ssdtune.mri.networks.resume import Progress, ResumeFile, resume_path
from ssdtune.mri.networks.stock import Reconstructor
from ssdtune.mri.quality import LOSS_NAME, training_loss
from ssdtune.progress import Track, silent

SAVE_EVERY_SECONDS = 300.0

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


class TrainingSet(Protocol):
    """Items are ``(inputs, target)``: a tuple of tensors for the model, and a mapping of tensors for the loss.

    A set may offer ``for_epoch(number)``: the same samples as they are to be in that epoch.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Joined:
    """Several sample sets as one, in their order."""

    def __init__(self, sets: Sequence[TrainingSet]) -> None:
        self.sets = sets
        self._places = [(part, index) for part in sets for index in range(len(part))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        part, place = self._places[index]
        return part[place]

    def for_epoch(self, epoch: int) -> Joined:
        """All sets as they are to be in that epoch."""
        return Joined([_in_epoch(part, epoch) for part in self.sets])

    def fingerprint(self) -> str:
        """Content hash of all sets, in order."""
        return content_hash(_fingerprint(part) for part in self.sets)


def train(
    model: Reconstructor,
    samples: TrainingSet,
    *,
    epochs: int,
    learning_rate: float = 3e-4,
    batch_size: int = 1,
    seed: int = 0,
    loss: Loss = training_loss,
    loss_name: str = LOSS_NAME,
    validation: TrainingSet | None = None,
    workers: int = 0,
    precision: str = "float32",
    checkpoint: Path | None = None,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    track: Track = silent,
    device: torch.device | str = "cpu",
) -> list[float]:
    """Train ``model`` in place; returns the mean loss of every epoch. The model ends on ``device``, in eval mode.

    batch_size : samples of one shape a step; samples of different shapes are never mixed.
    validation : samples whose mean loss is taken after every epoch, under fixed masks, and kept in the provenance.
    workers : processes that read ahead. precision : ``bfloat16`` computes U-Nets in it, on a GPU.
    checkpoint : where the trained model goes, as a plain state dict under stock names with ``provenance`` inside. Until
        then ``{checkpoint}.resume`` keeps the state of every epoch's end, and of every 5 minutes; the same call takes
        it up. None: nothing is read or written.
    overwrite : replace a finished checkpoint, and a resume file of other settings.

    Raises
    ------
    ConfigError : the checkpoint is already there, or its resume file is of other settings, model or data.
    DataError : no samples.
    ModelError : the model does not fit the data, the loss or the weights became non-finite, or a file cannot be read
        or written.
    """
    if len(samples) == 0:
        raise DataError("no training samples", checkpoint or "", "name at least one")
    if checkpoint is not None:
        check_free(checkpoint, overwrite)
    check_precision(precision, torch.device(device))
    settings: dict[str, Any] = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "seed": seed,
    }
    settings |= {"loss": loss_name, "precision": precision}
    resume = None
    if checkpoint is not None:
        content = {"start": _state_hash(model), "data": _fingerprint(samples)}
        content |= {"validation": _fingerprint(validation)} if validation is not None else {}
        resume = ResumeFile(resume_path(checkpoint), settings | content)
    groups = _equal_shapes(samples) if batch_size > 1 else [np.arange(len(samples))]
    steps = sum(-(-len(group) // batch_size) for group in groups)

    model.to(device).train().requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    progress = Progress()
    if resume is not None:
        progress = resume.load(model, optimizer, overwrite) or progress
        resume.save(model, optimizer, progress)  # a folder that cannot be written is found before the long work
    _warm_up(model, samples, device)
    saved = time.monotonic()
    left = steps * (epochs - progress.epoch) - progress.step
    work = _work(samples, groups, batch_size, seed, epochs, progress, workers)
    with mixed_precision(model, precision):
        for count, batch in track(work, "training", left):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _decay(progress.epoch, epochs)
            inputs, target = _on(device, batch)
            optimizer.zero_grad(set_to_none=True)
            try:
                value = loss(model(*inputs), target)
            except (RuntimeError, ValueError) as reason:  # a slice too small for pools or loss, too little memory
                what = f"the model cannot be trained on this data ({str(reason).splitlines()[0]})"
                todo = "choose other sizes, fewer pools or a smaller batch"
                raise ModelError(what, checkpoint or "", todo) from reason
            value.backward()
            number = value.item()
            if not math.isfinite(number):
                raise _diverged(f"the loss became {number}", progress, checkpoint)
            optimizer.step()
            due = progress.step + 1 == steps or (resume is not None and time.monotonic() - saved > SAVE_EVERY_SECONDS)
            if due and not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
                raise _diverged("weights became non-finite", progress, checkpoint)
            progress.advance(number, count, steps, len(samples))
            if validation is not None and progress.step == 0:
                progress.validation.append(_validate(model, validation, loss, device))
            if due and resume is not None:
                resume.save(model, optimizer, progress)
                saved = time.monotonic()
    model.eval()
    if checkpoint is not None and resume is not None:
        record = settings | {"final_loss": progress.losses[-1]}
        record |= {"validation": progress.validation} if validation is not None else {}
        save_new_model(checkpoint, model, {**(provenance or {}), "training": record})
        resume.path.unlink(missing_ok=True)
    return progress.losses


def check_free(checkpoint: Path, overwrite: bool) -> None:
    """Raise ConfigError if the checkpoint is already there and may not be overwritten."""
    if checkpoint.exists() and not overwrite:
        raise ConfigError("a file is already there", checkpoint, "choose another --out, or give --overwrite")


def _work(
    samples: TrainingSet,
    groups: list[np.ndarray],
    batch_size: int,
    seed: int,
    epochs: int,
    progress: Progress,
    workers: int,
) -> Iterator[tuple[int, Any]]:
    """(samples in it, batch) of the batches still to do; ``progress`` moves on between them."""
    while progress.epoch < epochs:
        order = np.random.default_rng([seed, progress.epoch])
        parts: list[np.ndarray] = []
        for group in groups:
            shuffled = order.permutation(group)
            parts += [shuffled[at : at + batch_size] for at in range(0, len(group), batch_size)]
        plan = [parts[index].tolist() for index in order.permutation(len(parts))[progress.step :]]
        yield from zip(map(len, plan), _loaded(_in_epoch(samples, progress.epoch), plan, workers), strict=True)


def _loaded(samples: TrainingSet, plan: list[list[int]], workers: int = 0) -> Iterable[Any]:
    """The batches of a plan, in its order; ``workers`` processes read ahead of it."""
    if workers:
        return DataLoader(samples, batch_sampler=plan, num_workers=workers)  # type: ignore[arg-type]
    return (default_collate([samples[index] for index in indices]) for indices in plan)


def _in_epoch(samples: TrainingSet, epoch: int) -> TrainingSet:
    own: Callable[[int], TrainingSet] | None = getattr(samples, "for_epoch", None)
    return samples if own is None else own(epoch)


@torch.no_grad()
def _validate(model: Reconstructor, samples: TrainingSet, loss: Loss, device: torch.device | str) -> float:
    """Mean loss of the samples, one by one, under their fixed masks."""
    model.eval()
    values = []
    for batch in _loaded(samples, [[index] for index in range(len(samples))]):
        inputs, target = _on(device, batch)
        values.append(float(loss(model(*inputs), target)))
    model.train()
    return math.fsum(values) / len(values)


def _decay(epoch: int, epochs: int) -> float:
    return 1.0 if 5 * epoch < 4 * epochs else 0.1


def _warm_up(model: Reconstructor, samples: TrainingSet, device: torch.device | str) -> None:
    """Ask the model once before it counts.

    On two threads its first answer in a process is now and then another one at single pixels (seen with torch 2.13 on a
    CPU), and training then ends elsewhere from the same seed.
    """
    inputs, _ = _on(device, default_collate([samples[0]]))
    with torch.no_grad(), suppress(RuntimeError, ValueError):  # said in the first step
        model(*inputs)


def _on(device: torch.device | str, batch: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
    inputs, target = batch
    return [value.to(device) for value in inputs], {name: value.to(device) for name, value in target.items()}


def _equal_shapes(samples: TrainingSet) -> list[np.ndarray]:
    """Indices of the samples of each shape; reads every sample once."""
    groups: dict[Any, list[int]] = {}
    for index in range(len(samples)):
        inputs, target = samples[index]
        shape = (*(value.shape for value in inputs), *((name, value.shape) for name, value in target.items()))
        groups.setdefault(shape, []).append(index)
    return [np.array(group) for group in groups.values()]


def _diverged(what: str, progress: Progress, checkpoint: Path | None) -> ModelError:
    todo = "lower train.learning_rate, or look for bad slices: ssdtune data check PATH"
    return ModelError(f"{what} in epoch {progress.epoch + 1}, step {progress.step + 1}", checkpoint or "", todo)


def _fingerprint(samples: TrainingSet) -> str:
    own = getattr(samples, "fingerprint", None)
    if callable(own):
        return str(own())
    return content_hash(
        raw
        for index in range(len(samples))
        for value in (*samples[index][0], *samples[index][1].values())
        for raw in (str(value.shape), _raw(value))
    )


def _state_hash(model: Reconstructor) -> str:
    return content_hash(raw for name, value in model.state_dict().items() for raw in (name, _raw(value)))


def _raw(value: Tensor) -> memoryview:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
