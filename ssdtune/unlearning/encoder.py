"""A network's encoder: a U-Net's way down with the bottleneck (a VarNet has one in each cascade), else all before the
last linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def watching(model: nn.Module, names: dict[str, bool]) -> Iterator[list[Tensor]]:
    """Collects what modules give (True), or what their first input is, in one forward pass."""
    seen: list[Tensor] = []
    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_hook(
            lambda _, inputs, output, own=own: seen.append(output if own else inputs[0])
        )
        for name, own in names.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def encoder(model: nn.Module) -> tuple[dict[str, bool], set[str]]:
    """What to watch (see ``watching``), and the names of the encoder's parameters; both empty where nothing fits."""
    modules = [(name, module) for name, module in model.named_modules() if "sens_net" not in name]
    # by name: fastmri takes seconds to import
    unets = [name for name, module in modules if type(module).__name__ == "Unet" and hasattr(module, "conv")]
    names = [name for name, _ in model.named_parameters()]
    if unets:
        starts = tuple(f"{name}.{part}.".lstrip(".") for name in unets for part in ("down_sample_layers", "conv"))
        return {f"{name}.conv".lstrip("."): True for name in unets}, {n for n in names if n.startswith(starts)}
    linear = [name for name, module in modules if isinstance(module, nn.Linear)]
    if not linear:
        return {}, set()
    return {linear[-1]: False}, {name for name in names if not name.startswith(f"{linear[-1]}.".lstrip("."))}
