"""Bottleneck activations of each sample, caught in the same forward pass as its gradient.

Where they are taken: in a U-Net of fastMRI (for a VarNet the last cascade's) the output of the bottleneck convolution,
averaged over space; in any other model with a linear layer the input of the last one (the penultimate activations);
elsewhere there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(eq=False)
class Bottleneck:
    """The place of a model where embeddings are read.

    name : of the module, for the record. pick : (module's inputs, its output) -> activation (batch, channels, ...).
    """

    module: nn.Module
    name: str
    pick: Callable[[tuple[Any, ...], Any], Tensor]
    _seen: Tensor | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While open, each forward pass leaves its activation for ``take``; the model is left as it was."""
        handle = self.module.register_forward_hook(self._catch)
        try:
            yield
        finally:
            handle.remove()
            self._seen = None

    def take(self) -> Tensor | None:
        """Mean activation (channels,) of the last forward pass over batch and space; None if the module did not run."""
        activation, self._seen = self._seen, None
        if activation is None:
            return None
        pooled = activation if activation.dim() <= 2 else activation.flatten(2).mean(2)
        return pooled.reshape(-1, pooled.shape[-1]).mean(0)

    def _catch(self, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._seen = self.pick(inputs, output).detach()


def find_bottleneck(model: nn.Module) -> Bottleneck | None:
    """Where to read a model's embeddings, by the rule at the head of this file; None if nothing fits."""
    modules = list(model.named_modules())
    # by name: fastmri takes seconds to import
    unets = [(name, module) for name, module in modules if type(module).__name__ == "Unet" and hasattr(module, "conv")]
    if unets:
        name, unet = unets[-1]
        return Bottleneck(unet.conv, f"{name}.conv".lstrip("."), lambda inputs, output: output)
    linear = [(name, module) for name, module in modules if isinstance(module, nn.Linear)]
    if linear:
        name, layer = linear[-1]
        return Bottleneck(layer, name or "model", lambda inputs, output: inputs[0])
    return None
