"""The two domains of a translator: magnitude images, from wherever they are, in one size and range.

An image is padded to a square, resampled to the translator's size, and its grey values [0, 4 m] go to [-1, 1], m the
median inside the body: a bright lesion hardly moves that, so that tissue looks the same in both domains.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ssdtune.errors import ConfigError, DataError
from ssdtune.files import opened_hdf5
from ssdtune.mri.kspace.find import SUFFIXES, find_files
from ssdtune.mri.kspace.look import target_key
from ssdtune.mri.phantom.images import DATASET
from ssdtune.mri.phantom.sources import open_images

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# of an image's pixels; slices beyond the head show less
LEAST_BODY = 0.05
BRIGHTEST = 4.0


def read_domain(path: Path | str, size: int) -> Tensor:
    """All images of a domain, (n, 1, size, size) float32 in [-1, 1]; those that show hardly any body are left out.

    path : a folder, a glob or a list of files in fastMRI's layout, whose targets are taken; a folder of pictures (PNG,
        JPEG, TIFF, BMP); an HDF5 file with a dataset ``images`` (n, h, w); NIfTI; a folder of one DICOM series.

    Raises
    ------
    ConfigError : the package that reads this kind is missing.
    DataError : nothing there, a file that cannot be read, or no image with a body.
    """
    images = [to_range(squared(image, size))[0] for image in _images(Path(path)) if body(image).mean() >= LEAST_BODY]
    if not images:
        raise DataError("no image shows a body", path, "name magnitude images, bright on dark")
    return torch.stack(images)[:, None]


def read_domains(one: Path | str, other: Path | str, size: int) -> tuple[Tensor, Tensor]:
    """Two domains, each (n, 1, size, size) as of ``read_domain``.

    Raises ConfigError: all images of one are in the other too; and what ``read_domain`` raises.
    """
    domains = read_domain(one, size), read_domain(other, size)
    seen = [{image.numpy().tobytes() for image in domain} for domain in domains]
    for place, (inner, outer) in enumerate(((one, other), (other, one))):
        if seen[place] <= seen[1 - place]:
            raise ConfigError(f"all its images are in {outer} too", inner, "name two domains")
    return domains


def domain_files(path: Path | str) -> list[Path]:
    """What is read of a domain: its folder, or its files and the list that names them. Raises as ``find_files``."""
    path = Path(path)
    listed = path.suffix.lower() == ".txt" or not path.exists()
    return [path, *find_files(path)] if listed else [path]


def body(image: np.ndarray | Tensor) -> np.ndarray:
    """Where there is more than noise: pixels over 15 % of the image's 98 % quantile, (h, w) bool."""
    values = np.asarray(image)
    found: np.ndarray = values > 0.15 * np.quantile(values, 0.98)
    return found


def squared(image: np.ndarray, size: int) -> Tensor:
    """An image (h, w) padded with zeros to a square and resampled to (size, size)."""
    values = torch.from_numpy(np.array(image, np.float32))  # a copy: pictures cannot be written to
    top, left, side = _frame(image.shape[0], image.shape[1])
    padded = pad(values, (left, side - image.shape[1] - left, top, side - image.shape[0] - top))
    return padded if side == size else _resampled(padded, size)


def unsquared(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """Back from ``squared``: an image (size, size) resampled to what an image of ``shape`` was padded to, and cut."""
    top, left, side = _frame(*shape)
    full = image if side == len(image) else _resampled(image, side)
    return full[top : top + shape[0], left : left + shape[1]]


def to_range(image: Tensor) -> tuple[Tensor, float]:
    """(the image (h, w) in [-1, 1], the grey value that goes to 1)."""
    inside = body(image)
    top = BRIGHTEST * float(np.median(image.numpy()[inside])) if inside.any() else 1.0
    return (2 * image / top - 1).clamp(-1, 1), top


def _frame(h: int, w: int) -> tuple[int, int, int]:
    side = max(h, w)
    return (side - h) // 2, (side - w) // 2, side


def _resampled(image: Tensor, size: int) -> Tensor:
    return interpolate(image[None, None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _images(path: Path) -> Iterator[np.ndarray]:
    pictures = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES) if path.is_dir() else []
    if pictures and not _is_kspace(path):  # a picture beside HDF5 files is a preview of them
        yield from map(_picture, pictures)
    elif _is_kspace(path):
        for file in find_files(path):
            with opened_hdf5(file) as volume:
                key = target_key(volume)
                if key not in volume:
                    raise DataError(f"no '{key}'", file, "name files in fastMRI's layout, with targets")
                values = volume[key][()]
            yield from _finite(values, file)
    else:
        source = open_images(path)
        for number in range(source.count):
            yield from _finite(source.load(number, 1), source.path)


def _is_kspace(path: Path) -> bool:
    """Whether it names files in fastMRI's layout: not one of another kind, nor a folder without HDF5 files."""
    if path.is_dir():
        return any(each.suffix.lower() in SUFFIXES for each in path.iterdir())
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        with opened_hdf5(path) as file:
            return DATASET not in file
    return path.suffix.lower() == ".txt" or not path.exists()


def _picture(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("F"), np.float32)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as reason:
        raise DataError("not a picture", path, "take it out of the folder, or save it again") from reason


def _finite(images: np.ndarray, where: Path) -> np.ndarray:
    if images.ndim != 3 or images.dtype.kind not in "fiu" or not np.isfinite(images).all():
        raise DataError("not real finite images (n, h, w)", where, "repair the file or leave it out")
    return np.maximum(images.astype(np.float32), 0)
