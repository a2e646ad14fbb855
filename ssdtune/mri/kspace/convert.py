"""Other programs' k-space as files in fastMRI's layout: ISMRMRD HDF5 and BART's cfl/hdr."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from ssdtune.errors import ConfigError, DataError
from ssdtune.files import opened_hdf5
from ssdtune.mri.kspace.find import find_files
from ssdtune.mri.kspace.fourier import root_sum_of_squares
from ssdtune.mri.kspace.from_bart import read_bart
from ssdtune.mri.kspace.from_ismrmrd import ismrmrd_group, read_ismrmrd
from ssdtune.mri.kspace.scan import center_crop
from ssdtune.mri.kspace.write import Measured, write_volume
from ssdtune.progress import Track, silent

BART = (".cfl", ".hdr")


def convert_files(
    sources: Iterable[Path | str], out: Path | str, *, overwrite: bool = False, track: Track = silent
) -> list[Path]:
    """Write ``NAME.h5`` in ``out`` for each source; the root sum of squares of its coil images is its target.

    sources : files, folders, globs of ISMRMRD files; BART arrays with or without their suffix.

    Raises
    ------
    ConfigError : two sources of one name, a file that is there already, a package that is missing.
    DataError : no such source, of neither format, or not what ``read_ismrmrd`` and ``read_bart`` take.
    """
    found = list(dict.fromkeys(path for source in sources for path in _found(Path(source))))
    made: dict[Path, Path] = {}
    for path in found:
        file = Path(out) / f"{path.stem}.h5"
        if file in made:
            raise ConfigError(f"also {made[file]} would become {file.name}", path, "convert them to different folders")
        if file.exists() and (not overwrite or file.resolve() == path.resolve()):
            raise ConfigError("the file is there already", file, "choose another folder, or give --overwrite")
        made[file] = path
    for path in found:
        _refuse_others(path)
    for file, path in track(made.items(), "converting", len(made)):
        measured = read_bart(path) if path.suffix in BART else read_ismrmrd(path)
        _write(file, path, measured)
    return list(made)


def _found(path: Path) -> list[Path]:
    """BART's arrays by their .cfl, other files as they are."""
    if path.suffix in BART and path.exists():
        return [path.with_suffix(".cfl")]
    if path.with_name(f"{path.name}.cfl").exists():
        return [path.with_name(f"{path.name}.cfl")]
    arrays = sorted(path.glob("*.cfl")) if path.is_dir() else []
    try:
        return arrays + find_files(path)
    except DataError:
        if arrays:
            return arrays
        raise


def _refuse_others(path: Path) -> None:
    if path.suffix in BART:
        return
    with opened_hdf5(path) as file:
        if isinstance(file.get("kspace"), h5py.Dataset):
            raise DataError("the file is in fastMRI's layout already", path, "use it as it is")
        if ismrmrd_group(file) is None:
            raise DataError("not an ISMRMRD file (no group of 'xml' and 'data')", path, "leave it out")


def _write(file: Path, source: Path, measured: Measured) -> None:
    if not np.isfinite(measured.kspace).all():
        raise DataError("NaN or Inf in the k-space", source, "repair the file or leave it out")
    target = center_crop(root_sum_of_squares(measured.kspace), measured.target_size)
    if target.max() <= 0:
        raise DataError("the k-space is all zero", source, "leave the file out")
    write_volume(
        file,
        measured.kspace,
        target,
        acquisition=measured.acquisition,
        header=measured.header,
        subject=measured.subject or None,
    )
