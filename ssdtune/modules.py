"""Which torch modules can be unlearned: everything of a model has to go through ``functional_call`` and come back.

Gradients, dampened parameters and trained ones go by parameter names, as float32 or float64 vectors, one sample's
apart from another's. Whatever would be dropped, cast or mixed on that way is refused at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from ssdtune.errors import ModelError

# by name: importing them takes seconds, and some builds of torch lack them
_WRAPPERS = {
    "DataParallel": "pass model.module",
    "DistributedDataParallel": "pass model.module",
    "FullyShardedDataParallel": "pass the module before it was sharded",
    "OptimizedModule": "pass the module before torch.compile",
}
_DTYPES = (torch.float32, torch.float64)


def kept_copy(model: nn.Module, where: str) -> nn.Module:
    """A copy of ``model`` in eval mode that is not trained, with what it has frozen as buffers.

    A model that is frozen as a whole counts as not frozen.

    Raises ModelError: a kind of module or parameter that cannot be served; see ``_unfit``.
    """
    for what, todo in _unfit(model):
        raise ModelError(what, where, todo)
    try:
        kept = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError, NotImplementedError) as reason:
        what = f"the model cannot be copied ({str(reason).splitlines()[0][:120]})"
        raise ModelError(what, where, "make every tensor in it a parameter or a buffer") from reason
    if any(parameter.requires_grad for parameter in kept.parameters()):
        for module in kept.modules():
            for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
                if not parameter.requires_grad:
                    delattr(module, name)
                    module.register_buffer(name, parameter.data)
    return kept.requires_grad_(False)


def _unfit(model: nn.Module) -> Iterator[tuple[str, str]]:
    """(what cannot be served, what to do) of each such part of a model."""
    for name, module in model.named_modules():
        kind, place = type(module).__name__, f"'{name}'" if name else "the model"
        if kind in _WRAPPERS:
            yield f"{place} is a {kind}", _WRAPPERS[kind]
        elif isinstance(module, torch.jit.ScriptModule):
            yield f"{place} is compiled by torch.jit", "pass the Python module"
        elif isinstance(module, _BatchNorm) and module.running_mean is None:
            what = f"{place} ({kind}) keeps no running statistics: what it makes of a sample depends on the others"
            yield what, "use track_running_stats=True, or another norm, and train again"
    named = list(model.named_parameters())
    if not named:
        yield "the model has no parameters", "pass a torch module with some"
    trainable = [pair for pair in named if pair[1].requires_grad] or named
    for name, parameter in named:
        if is_lazy(parameter):
            yield f"parameter '{name}' has no shape yet", "run the model once before"
        elif parameter.is_meta or parameter.layout != torch.strided:
            yield f"parameter '{name}' is {'on the meta device' if parameter.is_meta else 'sparse'}", "make it dense"
    for name, parameter in trainable:
        if parameter.dtype not in _DTYPES:
            what = f"parameter '{name}' is {str(parameter.dtype).removeprefix('torch.')}, not float32 or float64"
            yield what, "pass model.float(), or freeze it with requires_grad_(False)"
        elif not torch.isfinite(parameter).all():
            yield f"parameter '{name}' holds NaN or infinity", "train the model again"
