"""Checkpoint files: where a network's tensors are in them, reading them without running code, writing them back.

A checkpoint is a pickle that may hold anything. ``read_checkpoint`` lets PyTorch's weights-only unpickler build it:
tensors, numbers, texts, containers and the few values of ``_HARMLESS``, and executes nothing; safetensors has no code.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ssdtune.errors import ModelError, near_file
from ssdtune.files import atomic_path, is_special
from ssdtune.mri.networks.copies import without_arrays

Form = Literal["state_dict", "wrapped", "lightning", "safetensors"]

PROVENANCE_KEY = "ssdtune_provenance"
_SAFETENSORS = ".safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint file's content.

    form : ``state_dict`` (tensors by name), ``wrapped`` (a mapping that holds the state dict under ``key``),
        ``lightning`` (the same, as PyTorch Lightning writes it) or ``safetensors`` (tensors by name in that format).
    payload : all that the file holds. metadata : the texts by name of a safetensors file.
    """

    path: Path
    payload: Mapping[Any, Any]
    form: Form
    key: str | None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The state dict inside."""
        return self.payload if self.key is None else self.payload[self.key]

    @property
    def hyper_parameters(self) -> Mapping[str, Any]:
        """What Lightning's ``save_hyperparameters`` kept, else empty."""
        kept = self.payload.get("hyper_parameters", {}) if self.form == "lightning" else {}
        return vars(kept) if isinstance(kept, argparse.Namespace) else kept if isinstance(kept, Mapping) else {}


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint onto the CPU, weights only.

    Raises
    ------
    ModelError : the file is absent, unreadable, damaged or no checkpoint, would need code to load, or holds no tensors.
    """
    path = Path(path)
    if is_special(path):  # a pipe would be waited for
        raise ModelError("cannot read (not a file)", path, "check the path")
    if _is_safetensors(path):
        tensors, metadata = _read_safetensors(path)
        return Checkpoint(path, tensors, "safetensors", None, metadata)
    payload = read_weights_only(path)
    if not isinstance(payload, Mapping):
        raise ModelError(f"holds a {type(payload).__name__}, not a checkpoint", path, "save the model's state_dict()")
    found = {None: payload} if _is_state(payload) else {key: v for key, v in payload.items() if _is_state(v)}
    usual = [key for key in (None, "state_dict", "model", "model_state_dict") if key in found]
    if not found:
        raise ModelError("holds no state dict", path, "save the model's state_dict()")
    if not usual and len(found) > 1:
        names = ", ".join(map(str, found))
        raise ModelError(f"holds several state dicts ({names})", path, "save the one you mean alone")
    key = usual[0] if usual else next(iter(found))
    lightning = key == "state_dict" and "pytorch-lightning_version" in payload
    return Checkpoint(path, payload, "state_dict" if key is None else "lightning" if lightning else "wrapped", key)


def read_weights_only(path: Path, todo: str = "copy or download it again") -> Any:
    """``torch.load`` that never executes code; any failure is a one-line ModelError.

    todo : what to do about a damaged file.
    """
    try:
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"
    except OSError as reason:
        raise ModelError(f"cannot read ({reason.strerror or reason})", path, near_file(path)) from reason
    if archive:
        _refuse_compressed(path, todo)
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: it loads, or the error below says why not
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:  # damaged bytes can raise nearly anything inside an unpickler
        code = re.search(r"(?:GLOBAL|function|but got)(?: <class)? '?([\w.]+)", str(reason))
        if code and "eights" in str(reason):
            what = f"would run code when loaded (it holds a {code[1].strip('.')}), refused"
            todo = "where you trust it, load it by torch.load(file, weights_only=False) and save its state_dict alone"
            raise ModelError(what, path, todo) from reason
        what = "truncated or damaged checkpoint" if archive else "not a PyTorch checkpoint"
        raise ModelError(what, path, todo) from reason
    if any(_is_larger_than_stored(tensor) for tensor in _tensors(payload)):
        raise ModelError("a tensor of more than the file holds", path, "save contiguous tensors")
    return payload


def _refuse_compressed(path: Path, todo: str) -> None:
    """Refuse an archive whose entries expand: PyTorch writes them as they are. Raises ModelError."""
    try:
        with zipfile.ZipFile(path) as archive:
            expands = any(entry.file_size > entry.compress_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as reason:
        raise ModelError("truncated or damaged checkpoint", path, todo) from reason
    if expands:
        raise ModelError("an archive that expands, which PyTorch writes none of", path, "save it with torch.save")


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested plain values, each container once."""
    left, seen = [value], set[int]()
    while left:
        item = left.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, Mapping | list | tuple | set) and id(item) not in seen:
            seen.add(id(item))
            left.extend(item.values() if isinstance(item, Mapping) else item)


def _is_larger_than_stored(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return dense and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def write_checkpoint(
    path: Path | str, checkpoint: Checkpoint, state: Mapping[str, Tensor], provenance: Mapping[str, Any]
) -> list[str]:
    """Write ``checkpoint`` to ``path`` in its own form with another ``state``, and ``provenance`` (JSON values) inside.

    Beside the state dict settings and numbers are kept; entries that hold arrays are not (``without_arrays``): they may
    be the weights once more. Returns their names. The provenance is JSON text: under the top-level key
    ``ssdtune_provenance``, or, as a plain state dict must hold nothing but tensors to load with ``strict=True``, in the
    state dict's ``_metadata``, which PyTorch saves, restores and otherwise uses for module versions only.

    Raises
    ------
    ModelError : the file cannot be written, or is called as one of another form; what was at ``path`` is still there.
    """
    check_suffix(path, checkpoint)
    text = json.dumps(provenance)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    extra, left_out = without_arrays({name: value for name, value in state.items() if name not in tensors})
    # clones: a view would drag its whole storage into the file
    copies = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    inner = OrderedDict((name, (copies | extra)[name]) for name in state if name in copies or name in extra)
    if checkpoint.form == "safetensors":
        _write_safetensors(path, copies, {**checkpoint.metadata, PROVENANCE_KEY: text})
        return left_out
    metadata = OrderedDict(without_arrays(getattr(checkpoint.state, "_metadata", {}))[0])
    payload: Any = inner
    if checkpoint.key is None:
        metadata[PROVENANCE_KEY] = {"version": 1, "json": text}
    else:
        beside, arrays = without_arrays({key: v for key, v in checkpoint.payload.items() if key != checkpoint.key})
        order = [key for key in checkpoint.payload if key == checkpoint.key or key in beside]
        payload = {key: inner if key == checkpoint.key else beside[key] for key in order} | {PROVENANCE_KEY: text}
        left_out += arrays
    if metadata:
        inner._metadata = metadata  # type: ignore[attr-defined]
    write_weights(path, payload)
    return left_out


def check_suffix(path: Path | str, checkpoint: Checkpoint) -> None:
    """Refuse a file name that promises another form than the checkpoint's; raises ModelError."""
    form = "safetensors" if checkpoint.form == "safetensors" else "PyTorch"
    if (Path(path).suffix == _SAFETENSORS) != (form == "safetensors"):
        todo = f"name a file that {'ends' if form == 'safetensors' else 'does not end'} in {_SAFETENSORS}"
        raise ModelError(f"the original {checkpoint.path.name} is a {form} file, as the new one will be", path, todo)


def write_weights(path: Path | str, payload: Any) -> None:
    """``torch.save``, whole or not at all.

    Raises
    ------
    ModelError : the file cannot be written.
    """
    buffer = io.BytesIO()  # torch's own file writer reports a full disk as an abort or a C++ text; Python's as OSError
    torch.save(payload, buffer)
    with atomic_path(path, ModelError) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_provenance(path: Path | str) -> dict[str, Any] | None:
    """The provenance that ssdtune wrote into a checkpoint; None if there is none. Raises ModelError as reading does."""
    return provenance_of(read_checkpoint(path))


def provenance_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The provenance that ssdtune wrote into a checkpoint that was read; None if there is none."""
    if checkpoint.form == "safetensors":
        text = checkpoint.metadata.get(PROVENANCE_KEY)
    elif checkpoint.key is None:
        text = getattr(checkpoint.state, "_metadata", {}).get(PROVENANCE_KEY, {}).get("json")
    else:
        text = checkpoint.payload.get(PROVENANCE_KEY)
    return None if text is None else dict(json.loads(text))


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as that format does: the length of a JSON header, and its opening brace."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
            return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size
    except OSError:
        return False  # said where it is read


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as reason:
        raise ModelError("damaged safetensors file", path, "copy or download it again") from reason


def _write_safetensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    content = save({name: value.contiguous() for name, value in tensors.items()}, metadata)
    with atomic_path(path, ModelError) as temporary:
        temporary.write_bytes(content)


def _is_state(value: Any) -> bool:
    """Whether a value is a state dict: a mapping by text that has tensors under dotted names."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in value)
        and any("." in name and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


class _DtypeName:
    """Stands in for ``numpy.dtype`` in a pickle: keeps its name, ignores its state."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


def _number(dtype: _DtypeName, raw: bytes) -> float:
    """Stands in for ``numpy``'s scalar constructor: a Python number, so that no object can hide in its bytes."""
    import numpy as np

    if dtype.name.lstrip("<>|=")[:1] not in "fiub":
        raise ValueError(f"no number: {dtype.name}")
    value: float = np.frombuffer(raw, dtype.name)[0].item()
    return value


# What training code leaves in a checkpoint beside tensors and plain values: (what to build, the name in the file).
# Settings, paths and numbers only; classes of other packages are read as the plain value they amount to.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    *((pathlib.PosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *(  # the concrete class cannot be built elsewhere
        (pathlib.PureWindowsPath, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("WindowsPath", "PureWindowsPath")
    ),
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (dict, "lightning_fabric.utilities.data.AttributeDict"),
    (dict, "lightning.fabric.utilities.data.AttributeDict"),
    # Lightning before 1.5 keyed the callbacks' state by class
    ("ModelCheckpoint", "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    ("EarlyStopping", "pytorch_lightning.callbacks.early_stopping.EarlyStopping"),
    (_DtypeName, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
]
