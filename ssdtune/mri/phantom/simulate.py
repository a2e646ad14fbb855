"""Multi-coil k-space in fastMRI's layout, from procedural anatomies or from real magnitude images.

Notation: m magnitude image, its largest value in the volume 1; phi smooth object phase; S_c sensitivity maps with
sum |S_c|^2 = 1; F the centred orthonormal Fourier transform; n_c complex white Gaussian noise with standard deviation
``noise`` in each of its real and imaginary part. K-space of coil c is  k_c = F(S_c m exp(i phi)) + n_c,  and the target
is the root sum of squares of F^-1 k_c, noise included, as in fastMRI's files. The transform is orthonormal, so
``noise`` is also the noise of the coil images over the brightest pixel: the highest signal-to-noise ratio is 1 / noise.

The scale (targets reach about 1, fastMRI's about 1e-4) is free: models normalise, SSIM is relative to ``max``.

Everything random is named by seed and subject, so a file does not depend on which others are made with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssdtune.errors import ConfigError, check_known
from ssdtune.mri.kspace.fourier import fft2c, fit, root_sum_of_squares
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.phantom.anatomy import CONTRASTS, FAMILIES, SLICE_SPACING, draw_subject
from ssdtune.mri.phantom.coils import coil_maps
from ssdtune.mri.phantom.images import Images
from ssdtune.mri.phantom.shapes import Grid, SmoothField
from ssdtune.mri.phantom.sources import open_images
from ssdtune.mri.seeds import named_rng
from ssdtune.progress import Say, Track, silent, unsaid

# root mean square of the object phase (rad) and its wavelength over the longer side of the field of view
PHASE_RMS, PHASE_WAVELENGTH = 0.8, 1.2
# assumed for images that do not say: the field of view of a head scan in mm
FIELD_OF_VIEW = 220.0
SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Volume:
    """One simulated scan: ``kspace`` (slices, coils, ky, kx) complex64 and its ``target`` (slices, h, w) float32."""

    kspace: np.ndarray
    target: np.ndarray
    acquisition: str
    voxel_mm: tuple[float, float, float]
    subject: str | None = None

    def write(self, path: Path | str) -> None:
        """Write it in fastMRI's layout; see ``write_volume``."""
        write_volume(
            path, self.kspace, self.target, acquisition=self.acquisition, voxel_mm=self.voxel_mm, subject=self.subject
        )


def simulate_volume(
    anatomy: str = "brain",
    contrast: str = "t1",
    *,
    size: int | tuple[int, int] = 128,
    slices: int = 4,
    coils: int = 4,
    noise: float = 0.01,
    seed: int = 0,
    subject: int | str = 0,
) -> Volume:
    """Scan one procedural subject.

    The anatomy depends on seed, family and subject only: another contrast, size or noise shows the same body.

    Parameters
    ----------
    anatomy, contrast : names in ``anatomy.FAMILIES`` and ``anatomy.CONTRASTS``.
    size : pixels, (h, w) or the side of a square; the last axis is the one that masks undersample.
    noise : see the head of this file.

    Raises
    ------
    ConfigError : an unknown name, or a number out of range.
    """
    size = _checked(size, slices, coils, noise)
    check_known("anatomy", anatomy, FAMILIES, "--anatomy")
    check_known("contrast", contrast, CONTRASTS, "--contrast")
    name = f"{anatomy}_{subject:04d}" if isinstance(subject, int) else f"{anatomy}_{subject}"
    drawn = draw_subject(anatomy, size, slices, seed, name)
    pixel = drawn.grids[0].pixel
    levels = np.array([grid.z for grid in drawn.grids]) / (pixel * max(size) / 2)
    kspace, target = _scan(drawn.image(contrast), levels, coils, noise, seed, (name, contrast))
    return Volume(kspace, target, f"AX{contrast.upper()}", (pixel, pixel, SLICE_SPACING))


def simulate_folder(
    out: Path | str,
    *,
    anatomy: str = "brain",
    contrast: str = "t1",
    subjects: int = 10,
    first: int = 0,
    slices: int = 4,
    size: int | tuple[int, int] = 128,
    coils: int = 4,
    noise: float = 0.01,
    seed: int = 0,
    overwrite: bool = False,
    track: Track = silent,
) -> list[Path]:
    """Write ``subjects`` files ``ANATOMY_CONTRAST_NUMBER.h5``, numbered from ``first``; other values as in
    ``simulate_volume``. Returns the files.

    Raises
    ------
    ConfigError : a value out of range, or a file that is there already and ``overwrite`` is not given.
    DataError : the folder cannot be written.
    """
    if subjects < 1 or first < 0:
        raise ConfigError(
            f"{subjects} subjects from number {first}", "--subjects, --first", "give at least 1, from 0 on"
        )
    numbers = range(first, first + subjects)
    files = [Path(out) / f"{anatomy}_{contrast}_{number:04d}.h5" for number in numbers]

    def make(number: int) -> Volume:
        return simulate_volume(
            anatomy, contrast, size=size, slices=slices, coils=coils, noise=noise, seed=seed, subject=number
        )

    return _write_all(files, numbers, make, overwrite, track)


def simulate_images(
    out: Path | str,
    images: Path | str,
    *,
    files: int | None = None,
    first: int = 0,
    slices: int = 1,
    size: int | tuple[int, int] | None = None,
    coils: int = 4,
    noise: float = 0.01,
    seed: int = 0,
    overwrite: bool = False,
    track: Track = silent,
    say: Say = unsaid,
) -> list[Path]:
    """Scan real magnitude images: an HDF5 file with a dataset ``images`` (n, h, w), NIfTI, or a DICOM series.

    Each file holds ``slices`` neighbouring images, beginning with image ``first``, and is called ``STEM_NUMBER.h5``
    after its first image; ``files`` of them are made, default as many as there are images for. ``size`` defaults to the
    images' own; otherwise they are resampled by cropping k-space, padded to the aspect ratio. ``say`` is told how
    images lie that have an orientation. Returns the files.

    Raises
    ------
    ConfigError : a value out of range, a missing package, or a file that is there and ``overwrite`` is not given.
    DataError : the images cannot be used, or the folder cannot be written.
    """
    source = open_images(images)
    wanted = _checked(source.size if size is None else size, slices, coils, noise)
    there = (source.count - first) // slices
    count = there if files is None else files
    if first < 0 or not 1 <= count <= there:
        asked = f"{count} files of {slices} images from image {first}"
        raise ConfigError(f"cannot make {asked}, there are {source.count} images", images, "ask for fewer")
    starts = [first + number * slices for number in range(count)]
    names = [f"{source.name}_{start:04d}" for start in starts]
    voxel = _voxel(source, wanted)
    if source.orientation:
        say(f"{source.path}: {source.count} {source.orientation}")

    def make(start: int) -> Volume:
        pictures = source.read(start, slices)
        levels = voxel[2] * np.arange(slices) / (max(voxel[0] * wanted[0], voxel[1] * wanted[1]) / 2)
        identity = (f"{source.name}_{start:04d}", "image")
        kspace, target = _scan(fit(pictures, wanted), levels, coils, noise, seed, identity)
        return Volume(kspace, target, source.acquisition, voxel, source.subject)

    return _write_all([Path(out) / f"{name}.h5" for name in names], starts, make, overwrite, track)


def _voxel(source: Images, size: tuple[int, int]) -> tuple[float, float, float]:
    """Height, width and thickness in mm of the images' voxels at another size, which ``fit`` pads them to."""
    if source.voxel_mm is None:
        pixel = FIELD_OF_VIEW / max(size)
        return pixel, pixel, SLICE_SPACING
    tall, wide, thickness = source.voxel_mm
    h, w = source.size
    padded = max(h, round(w * size[0] / size[1])), max(w, round(h * size[1] / size[0]))
    return tall * padded[0] / size[0], wide * padded[1] / size[1], thickness


def _scan(
    images: np.ndarray, levels: np.ndarray, coils: int, noise: float, seed: int, identity: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """K-space and target of magnitude images (slices, h, w) at ``levels``, in half field-of-view lengths."""
    subject, contrast = identity
    size = images.shape[-2:]
    images = images / images.max()
    phase_field = SmoothField(named_rng(seed, subject, contrast, "phase"), 2 * PHASE_WAVELENGTH)
    grids = (Grid.covering(size, (2 * size[0] / max(size), 2 * size[1] / max(size)), level) for level in levels)
    phase = PHASE_RMS * np.stack([phase_field(grid) for grid in grids])
    maps = coil_maps(coils, size, levels, named_rng(seed, subject, "coils"))
    kspace = fft2c(maps * (images * np.exp(1j * phase))[:, None]).astype(np.complex64)
    if noise:
        rng = named_rng(seed, subject, contrast, "noise")
        white = rng.standard_normal((2, *kspace.shape), dtype=np.float32)
        kspace += np.float32(noise) * (white[0] + 1j * white[1])
    return kspace, root_sum_of_squares(kspace).astype(np.float32)


def _write_all(
    files: Sequence[Path], keys: Sequence[int], make: Callable[[int], Volume], overwrite: bool, track: Track
) -> list[Path]:
    there = [file for file in files if file.exists()]
    if there and not overwrite:
        raise ConfigError("the file is there already", there[0], "choose another folder, or give --overwrite")
    for file, key in track(zip(files, keys, strict=True), "simulating", len(files)):
        make(key).write(file)
    return list(files)


def _checked(size: int | tuple[int, int], slices: int, coils: int, noise: float) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else size
    if min(sides) < SMALLEST_SIDE:
        raise ConfigError(f"size {sides[0]}x{sides[1]}", "--size", f"give at least {SMALLEST_SIDE} pixels a side")
    if slices < 1 or coils < 1:
        raise ConfigError(f"{slices} slices, {coils} coils", "--slices, --coils", "give at least 1 of each")
    if not 0 <= noise < 1:
        raise ConfigError(f"noise {noise}", "--noise", "give the noise over the brightest pixel, in [0, 1)")
    return sides
