"""Model inputs from one slice's k-space: undersampled and transformed by fastMRI's own masks and transforms.

Masks are seeded by the file name, as in fastMRI, so all slices of a volume share one. A file with a ``mask`` of its
own (1 where a column was measured) was undersampled at the scanner: it keeps that mask, and the study's is not applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ssdtune.errors import ConfigError
from ssdtune.studyfile import MaskSection


class Inputs(Protocol):
    """Turns k-space (coils, ky, kx) complex64 of one slice into a model's inputs.

    ``own_mask`` is (kx,) or None, ``image`` the target (h, w), ``attributes`` the metadata fastMRI reads of the file.
    """

    def __call__(
        self,
        kspace: np.ndarray,
        own_mask: np.ndarray | None,
        image: np.ndarray,
        attributes: Mapping[str, Any],
        file_name: str,
    ) -> tuple[Tensor, ...]: ...


class VarNetInputs:
    """Masked k-space (coils, ky, kx, 2), sampling mask and centre lines, both (1, 1, kx, 1) bool.

    The centre lines are those that stock ``SensitivityModel.get_pad_and_num_low_freqs`` finds.
    """

    def __init__(self, mask: MaskSection) -> None:
        from fastmri.data.transforms import VarNetDataTransform
        from fastmri.models.varnet import SensitivityModel

        self._undersample = VarNetDataTransform(OncePerVolume(mask_function(mask)))
        self._as_measured = VarNetDataTransform()
        # stock code keeps the rule for the centre in this module; its network is not used
        self._centre = SensitivityModel(chans=1, num_pools=1)

    def __call__(
        self,
        kspace: np.ndarray,
        own_mask: np.ndarray | None,
        image: np.ndarray,
        attributes: Mapping[str, Any],
        file_name: str,
    ) -> tuple[Tensor, ...]:
        transform = self._undersample if own_mask is None else self._as_measured
        kspace = _measured(kspace, own_mask)
        sample = transform(kspace, own_mask, image, attributes, file_name, 0)
        start, count = self._centre.get_pad_and_num_low_freqs(sample.mask[None], sample.num_low_frequencies)
        columns = torch.arange(kspace.shape[-1])
        centre = (columns >= start) & (columns < start + count)
        return sample.masked_kspace, sample.mask, centre[None, None, :, None]


class UnetInputs:
    """Normalised zero-filled image (h, w) of the target's size, its mean and its standard deviation."""

    def __init__(self, mask: MaskSection) -> None:
        from fastmri.data.transforms import UnetDataTransform

        self._undersample = UnetDataTransform("multicoil", OncePerVolume(mask_function(mask)))
        self._as_measured = UnetDataTransform("multicoil")

    def __call__(
        self,
        kspace: np.ndarray,
        own_mask: np.ndarray | None,
        image: np.ndarray,
        attributes: Mapping[str, Any],
        file_name: str,
    ) -> tuple[Tensor, ...]:
        transform = self._undersample if own_mask is None else self._as_measured
        sample = transform(_measured(kspace, own_mask), own_mask, image, attributes, file_name, 0)
        return sample.image, sample.mean, sample.std


class OncePerVolume:
    """A fastMRI mask function that does not draw a mask again while it is asked for the same one."""

    def __init__(self, draw: Callable[..., tuple[Tensor, int]]) -> None:
        self._draw = draw
        self._asked: tuple[Any, ...] | None = None
        self._drawn: tuple[Tensor, int] | None = None

    def __call__(self, shape: Sequence[int], offset: int | None = None, seed: Any = None) -> tuple[Tensor, int]:
        asked = (tuple(shape), offset, seed)
        if self._drawn is None or seed is None or asked != self._asked:
            self._asked, self._drawn = asked, self._draw(shape, offset, seed)
        mask, centre = self._drawn
        return mask.clone(), centre  # fastMRI writes the padding into it


INPUTS: dict[str, type[VarNetInputs] | type[UnetInputs]] = {"varnet": VarNetInputs, "unet": UnetInputs}


def mask_function(mask: MaskSection) -> Any:
    """fastMRI's mask function for a study's mask section."""
    from fastmri.data.subsample import create_mask_for_mask_type

    return create_mask_for_mask_type(mask.kind, mask.center_fractions, mask.accelerations)


def sampled_lines(mask: MaskSection, columns: int, file_name: str) -> Tensor:
    """Which of a file's k-space columns the mask section samples, (columns,) bool, before any padding is cut.

    Raises
    ------
    ConfigError : fastMRI cannot draw such a mask.
    """
    try:
        lines, _ = mask_function(mask)((1, columns, 1), seed=tuple(map(ord, file_name)))
    except (ValueError, ArithmeticError, IndexError, AssertionError) as reason:
        shown = f"{mask.in_words()}, {columns} columns"
        todo = "lower mask.acceleration or mask.center_fraction"
        raise ConfigError(f"the mask cannot be drawn ({shown})", file_name, todo) from reason
    found: Tensor = lines.flatten().bool()
    return found


def _measured(kspace: np.ndarray, own_mask: np.ndarray | None) -> np.ndarray:
    """K-space without what lies outside the file's own mask (nothing, if the mask is true to the data)."""
    return kspace if own_mask is None else kspace * own_mask.astype(bool)
