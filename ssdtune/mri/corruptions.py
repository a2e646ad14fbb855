"""What can be wrong with a target image: a table of corruptions, one function each; ``LEARNED`` ones need a model.

Notation: I image (h, w), not negative; K = F I its k-space by the centred orthonormal transform; A >= 0 amplitude, a
share, where 0 leaves the image as it is and 1 is gross; kx the phase encoding, the last axis. Frequencies k run
from -n/2 to n/2 - 1. What a fault looks like (direction, place, pattern) is drawn from ``rng``, the same for the same
generator state, so that one fault can be put into many images.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ssdtune.mri.kspace.fourier import fft2c, ifft2c

Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""``corruption(image (h, w), amplitude, rng) -> image (h, w) float32``, not negative."""


def ghosting(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """N-fold ghosts along the phase encoding: K'(kx) = K(kx) (1 + A cos(2 pi kx / N)), N = 2 or 3.

    A periodic modulation of the lines adds A / 2 of the image shifted by +W/N and by -W/N each (N = 2: one ghost of
    strength A, half a field of view away). Source: the Nyquist ghost of echo-planar imaging, Bernstein, King & Zhou,
    Handbook of MRI Pulse Sequences, 2004, sec. 16.1.
    """
    fold = rng.integers(2, 4)
    modulation = 1 + amplitude * np.cos(2 * np.pi * _frequencies(image.shape[1]) / fold)
    return _magnitude(ifft2c(fft2c(image) * modulation))


def bias(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Intensity drift I' = I exp(A P), P a random polynomial of order 3 in x and y, scaled to |P| <= 1.5 in the ellipse
    that the image holds, and limited to that outside.

    Source: the multiplicative bias field model of Van Leemput et al., IEEE TMI 18:885, 1999.
    """
    y, x = (np.linspace(-1, 1, n) for n in image.shape)
    orders = [(i, j) for i in range(4) for j in range(4 - i) if i + j > 0]
    weights = rng.standard_normal(len(orders))
    field = sum(c * np.outer(y**i, x**j) for c, (i, j) in zip(weights, orders, strict=True))
    largest = np.abs(field)[np.hypot(y[:, None], x[None]) <= 1].max()
    return _magnitude(image * np.exp(amplitude * np.clip(1.5 * field / largest, -1.5, 1.5)))


def lesion(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """False bright lesions: I' = I + A q B inside the body, q the 95 % quantile of I there, B two to five soft blobs.

    A blob is exp(-(r / R)^4 / 2), its radius R 6 to 12 % of the body's extent and wavy. Places are relative to the
    body's bounding box, so the same fault sits at the same place in every image. Ours.
    """
    smooth = gaussian_filter(image, max(image.shape) / 64)
    body = smooth > 0.15 * np.quantile(smooth, 0.98)
    rows, columns = (np.flatnonzero(body.any(axis)) for axis in (1, 0))
    if not rows.size:
        return _magnitude(image)
    top, left, height, width = rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1
    y, x = (np.arange(n, dtype=float) for n in image.shape)
    blobs = np.zeros(image.shape)
    for _ in range(rng.integers(2, 6)):
        centre, radius = rng.uniform(0.25, 0.75, 2), rng.uniform(0.06, 0.12)
        v = ((y - top) / height - centre[0])[:, None] / radius
        u = ((x - left) / width - centre[1])[None] / radius
        angle, waves = np.arctan2(v, u), rng.integers(2, 6)
        uneven = 1 + 0.25 * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
        blobs = np.maximum(blobs, np.exp(-0.5 * ((u**2 + v**2) / uneven**2) ** 2))
    return _magnitude(image + amplitude * np.quantile(image[body], 0.95) * blobs * body)


def zipper(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Stripes from a spike in k-space: K'(k0) = K(k0) + (A / 2) max |K| exp(i phi), and its conjugate at -k0.

    In the image: I' = |I + A mean(I) cos(2 pi k0 r + phi)|, as max |K| = K(0) = mean(I) sqrt(h w).
    Source: the spike (herringbone) artefact as in TorchIO's RandomSpike, Perez-Garcia et al., CMPB 208:106236, 2021.
    """
    h, w = image.shape
    radius, angle, phase = rng.uniform(0.08, 0.2), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    # cycles per pixel, up to a fifth: 5 pixels a stripe or more
    ky, kx = radius * np.sin(angle), radius * np.cos(angle)
    y, x = np.arange(h)[:, None], np.arange(w)[None]
    # the inverse transform of the two spikes; between grid points of k-space the formula holds as it is
    return _magnitude(image + amplitude * image.mean() * np.cos(2 * np.pi * (ky * y + kx * x) + phase))


def motion(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Ghosts of a patient who moves between shots: K'(k) = K(k) exp(-2 pi i k . d_b) for the lines of each block b.

    The central block stands still; each of the others, 5 to 8 blocks of lines along kx, was acquired after a shift d_b,
    normal with a standard deviation of 2.5 % of the field of view times A in each direction. Source: Loktyushin et al.,
    MRM 70:1608, 2013, eq. 3 (translation).
    """
    h, w = image.shape
    blocks = int(rng.integers(5, 9))
    shifts = 0.025 * amplitude * rng.standard_normal((2, blocks))
    ky, kx = _frequencies(h)[:, None], _frequencies(w)[None]
    block = np.minimum(np.floor((kx / w + 0.5) * blocks).astype(int), blocks - 1)
    dy, dx = np.where(np.abs(kx) < 0.04 * w, 0, shifts[:, block])
    return _magnitude(ifft2c(fft2c(image) * np.exp(-2j * np.pi * (ky * dy + kx * dx))))


def blur(image: np.ndarray, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Loss of resolution: K'(k) = K(k) exp(-2 pi^2 s^2 |k|^2), a Gaussian in the image too, its standard deviation s
    2 % of the field of view times A. Nothing in it is random. Ours."""
    ky, kx = _frequencies(image.shape[0])[:, None], _frequencies(image.shape[1])[None]
    filtered = fft2c(image) * np.exp(-2 * (np.pi * 0.02 * amplitude) ** 2 * (ky**2 + kx**2))
    return _magnitude(ifft2c(filtered))


CORRUPTIONS: dict[str, Corruption] = {
    corruption.__name__: corruption for corruption in (ghosting, bias, lesion, zipper, motion, blur)
}

LEARNED = {
    "cyclegan": "ssdtune.mri.translation.translator:load_translator",
    "adversarial": "ssdtune.mri.classifier:load_classifier",
}
"""Kinds that a trained model makes, and what reads its file and gives something with ``corruption() -> Corruption``."""


AMPLITUDES = {"cyclegan": 1.0, "adversarial": 0.05}
"""Of kinds where 0.5 is not what a user means: the translation, and eps of the corrective unlearning paper."""


def learned(kind: str, model: Path | str) -> Corruption:
    """The corruption of a kind in ``LEARNED`` by the model in a file. Raises ModelError: not such a file."""
    module, _, reader = LEARNED[kind].partition(":")
    found: Corruption = getattr(import_module(module), reader)(model).corruption()
    return found


def _frequencies(n: int) -> np.ndarray:
    """Cycles per field of view of each index of centred k-space."""
    return np.arange(n) - n // 2


def _magnitude(image: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.abs(image).astype(np.float32)
    return found
