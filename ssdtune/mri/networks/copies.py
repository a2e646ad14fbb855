"""What else in a checkpoint holds a model's weights, or follows from them: an unlearned file must keep none of it.

Training code writes weights twice: Lightning's weight averaging (``current_model_state``), moving averages (``ema``,
``model_ema.*``), the moments of an optimiser, compressed or packed copies. Only the state dict that was unlearned goes
into the new file; of everything else, settings and single numbers do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

# bits of a random layer are never those of another one; fewer values may be equal by chance (zeros, ones)
_FEWEST_VALUES = 16


def without_arrays(entries: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """(entries that hold no array anywhere inside, names of the others).

    An array is a tensor of one dimension or more, a storage or raw bytes. What is kept is a copy: a number that is a
    view of a larger tensor would drag that tensor's whole storage into the file.
    """
    kept = {key: _copied(value) for key, value in entries.items() if not _holds_array(value)}
    return kept, [str(key) for key in entries if key not in kept]


def copies_of(network: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> set[str]:
    """Names in ``others`` that belong to another copy of ``network``, whatever its values; both are parts of one state
    dict, and names up to the first dot make a group.

    A group is a copy if it has tensors for half of the network's shapes or more, or a tensor with the network's values.
    """
    groups: dict[str, list[str]] = {}
    for name in others:
        groups.setdefault(name.partition(".")[0], []).append(name)
    wanted = _shapes(network.values())
    found: set[str] = set()
    for names in groups.values():
        shared = wanted & _shapes(others[name] for name in names)
        if 2 * shared.total() >= wanted.total() or any(_is_one_of(others[name], network) for name in names):
            found.update(names)
    return found


def _holds_array(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim > 0
    if isinstance(value, Mapping):
        return any(map(_holds_array, (*value.keys(), *value.values())))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_array, value))
    if isinstance(value, bytes | bytearray | torch.UntypedStorage | torch.TypedStorage):
        return True
    return _holds_array(vars(value)) if hasattr(value, "__dict__") and not isinstance(value, type) else False


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        copied = value.copy()  # keeps an OrderedDict one
        copied.update({key: _copied(item) for key, item in value.items()})
        return copied
    return [_copied(item) for item in value] if type(value) is list else value


def _shapes(tensors: Iterable[Tensor]) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tensor.shape) for tensor in tensors if tensor.ndim)


def _is_one_of(value: Tensor, network: Mapping[str, Tensor]) -> bool:
    alike = (own for own in network.values() if own.shape == value.shape and own.numel() >= _FEWEST_VALUES)
    return any(torch.equal(own, value.to(own.dtype)) and own.unique().numel() > 1 for own in alike)
