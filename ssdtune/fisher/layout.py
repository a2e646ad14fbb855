"""How a model's named parameters lie in one flat vector, and which stretches of it belong together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Names, shapes and dtypes (``"float32"``) of P parameters, in ``named_parameters`` order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> Layout:
        """The layout of named parameters, which may have any shape: (...,) each."""
        shapes = tuple(tuple(value.shape) for value in params.values())
        return cls(tuple(params), shapes, tuple(str(value.dtype).removeprefix("torch.") for value in params.values()))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Each parameter's stretch of the flat vector."""
        places, start = [], 0
        for shape in self.shapes:
            places.append(slice(start, start + math.prod(shape)))
            start = places[-1].stop
        return tuple(places)

    @property
    def parameters(self) -> int:
        """P, the number of scalar parameters."""
        return self.slices[-1].stop if self.slices else 0

    def flatten(self, params: Mapping[str, Tensor]) -> NDArray[Any]:
        """(P,) vector, float64 if any parameter is, else float32."""
        flat = np.empty(self.parameters, np.float64 if "float64" in self.dtypes else np.float32)
        for name, place in zip(self.names, self.slices, strict=True):
            flat[place] = params[name].detach().to("cpu", torch.float64).reshape(-1).numpy()
        return flat

    def unflatten(self, vector: Any) -> dict[str, Any]:
        """Views of a (P,) array or tensor by name, each in its parameter's shape."""
        places = zip(self.names, self.slices, self.shapes, strict=True)
        return {name: vector[place].reshape(shape) for name, place, shape in places}

    def groups(self, labels: Sequence[str]) -> dict[str, list[slice]]:
        """Stretches of the flat vector by label, in model order; ``labels`` names the group of each parameter."""
        found: dict[str, list[slice]] = {}
        for label, place in zip(labels, self.slices, strict=True):
            stretches = found.setdefault(label, [])
            if stretches and stretches[-1].stop == place.start:
                stretches[-1] = slice(stretches[-1].start, place.stop)
            else:
                stretches.append(place)
        return found

    @property
    def layers(self) -> list[str]:
        """The module that owns each parameter; a parameter of the model itself stands for itself."""
        return [name.rpartition(".")[0] or name for name in self.names]
