"""fastMRI's Fourier transform on NumPy arrays, and what is built on it.

Convention of ``fastmri.fft2c``: centred (zero frequency and image origin are at index n // 2) and orthonormal, over the
last two axes; so the adjoint is the inverse, and noise has the same standard deviation on both sides.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

AXES = (-2, -1)


def fft2c(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal 2-D Fourier transform of (..., h, w); single precision stays single."""
    found: np.ndarray = fft.fftshift(fft.fft2(fft.ifftshift(image, AXES), axes=AXES, norm="ortho"), AXES)
    return found


def ifft2c(kspace: np.ndarray) -> np.ndarray:
    """Inverse, and adjoint, of ``fft2c``."""
    found: np.ndarray = fft.fftshift(fft.ifft2(fft.ifftshift(kspace, AXES), axes=AXES, norm="ortho"), AXES)
    return found


def root_sum_of_squares(kspace: np.ndarray) -> np.ndarray:
    """Root-sum-of-squares image (..., h, w) of multi-coil k-space (..., coils, h, w)."""
    images = ifft2c(kspace)
    found: np.ndarray = np.sqrt(np.sum(images.real**2 + images.imag**2, axis=-3))
    return found


def fit(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Magnitude images (..., h, w) at another size, as a scan of another resolution would show them.

    The images are padded with zeros to the wanted aspect ratio, so nothing is cut off or stretched; then their k-space
    is cropped (or padded with zeros) to ``size``. Negative lobes are cut at zero. Float32.
    """
    h, w = images.shape[-2:]
    pad_h = max(h, round(w * size[0] / size[1])) - h
    pad_w = max(w, round(h * size[1] / size[0])) - w
    margins = [(0, 0)] * (images.ndim - 2) + [(pad_h // 2, pad_h - pad_h // 2), (pad_w // 2, pad_w - pad_w // 2)]
    padded = np.pad(images.astype(np.float32), margins)
    before = padded.shape[-2:]
    kspace = fft2c(padded)
    for axis, count in zip(AXES, size, strict=True):
        kspace = centred(kspace, axis, count)
    # the orthonormal transform spreads an image's energy over its pixels
    scale = np.sqrt(size[0] * size[1] / (before[0] * before[1]))
    found: np.ndarray = np.maximum(ifft2c(kspace).real * scale, 0).astype(np.float32)
    return found


def centred(values: np.ndarray, axis: int, count: int) -> np.ndarray:
    """``values`` cropped or zero-padded along one axis, index n // 2 going to index count // 2."""
    length = values.shape[axis]
    start = length // 2 - count // 2
    if start >= 0 and start + count <= length:
        return np.take(values, np.arange(start, start + count), axis)
    margins = [(0, 0)] * values.ndim
    margins[axis] = (-start, count - length + start)
    return np.pad(values, margins)
