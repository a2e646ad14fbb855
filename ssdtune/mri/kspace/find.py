"""Which HDF5 files a sample set names, and fastMRI's own dataset over exactly those."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ssdtune.errors import DataError, near_file

if TYPE_CHECKING:
    from fastmri.data.mri_data import SliceDataset

SUFFIXES = (".h5", ".hdf5")


def find_files(spec: str | Path) -> list[Path]:
    """The HDF5 files that a folder, a glob, a text file of file names or a single file names, in a fixed order.

    A folder gives its ``.h5`` and ``.hdf5`` files and a glob its matches, by name; a ``.txt`` file gives its lines in
    their order, relative to the text file, without blank lines and lines that start with ``#``.

    Raises
    ------
    DataError : nothing there, nothing named, a list naming an absent file or one file twice, no permission to look, a
        name that is no text.
    """
    path = Path(spec)
    try:
        if path.is_dir():
            files = _data_files(path.iterdir())
        elif path.suffix.lower() == ".txt":
            files = _listed(path)
        elif path.exists():
            files = [path]
        elif glob.has_magic(str(spec)):
            # what is there by that name is no pattern: a folder may be called [old]
            base = next((parent for parent in path.parents if parent.is_dir()), Path())
            pattern = Path(glob.escape(str(base))) / path.relative_to(base)
            files = _data_files(Path(match) for match in glob.glob(str(pattern), recursive=True))  # noqa: PTH207 (takes absolute patterns)
        else:
            raise DataError("no such file or folder", spec, near_file(spec))
    except OSError as reason:
        raise DataError(f"cannot read ({reason.strerror})", spec, "check path and permissions") from reason
    if not files and path.suffix.lower() == ".txt" and path.is_file():
        raise DataError("a list that names no files", spec, "list one file name a line")
    if not files:
        raise DataError("no HDF5 files", spec, f"name files that end in {' or '.join(SUFFIXES)}")
    for file in files:
        if not _is_text(str(file.absolute())):
            raise DataError("the file's name is no UTF-8", file, "rename it")  # it seeds masks and is recorded
    return files


def as_line(name: str) -> str:
    """The line of a list (``.txt``) that names a file so, relative to the list.

    Raises DataError: no line can.
    """
    line = f"./{name}" if name[:1] in ("#", " ") else name
    if line.strip() != line or len(line.splitlines()) != 1 or not _is_text(line):
        raise DataError("the file's name cannot stand in a list", name, "rename it")
    return line


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
    return True


def labels(files: Sequence[Path]) -> list[str]:
    """One unique name a file: the file name, with as many parent folders as it takes to tell all of them apart."""
    parts = [file.absolute().parts for file in files]
    depth = 1
    while depth < max(map(len, parts), default=1) and len({names[-depth:] for names in parts}) < len(parts):
        depth += 1
    return ["/".join(names[-depth:]) for names in parts]


def slice_dataset(files: Sequence[Path]) -> SliceDataset:
    """fastMRI's ``SliceDataset`` over exactly these multi-coil files, in this order.

    The class takes a folder and reads every entry in it, so it is shown a folder of links; its samples then name the
    files themselves, under the names that seed the masks. It opens a file for each slice and closes it again.
    """
    from fastmri.data.mri_data import SliceDataset

    with TemporaryDirectory(prefix="ssdtune-") as folder:
        links = {Path(folder) / f"{number:08d}": file.absolute() for number, file in enumerate(files)}
        for link, file in links.items():
            link.symlink_to(file)
        dataset = SliceDataset(root=folder, challenge="multicoil", raw_sample_filter=_every)
    dataset.raw_samples = [sample._replace(fname=links[sample.fname]) for sample in dataset.raw_samples]
    return dataset


def _every(sample: object) -> bool:
    # stands in for SliceDataset's lambda, which cannot be sent to another process
    return True


def _data_files(paths: Iterable[Path]) -> list[Path]:
    # a name that starts with a dot is a file manager's or an unfinished copy's; a link to nothing is not passed over
    named = (path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in named if not path.is_dir())


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]  # Windows marks UTF-8
    except UnicodeDecodeError as reason:
        raise DataError("not a text file", path, "list one file name a line") from reason
    files = [path.parent / line for line in lines if line and not line.startswith("#")]
    for file in files:
        if not file.is_file():
            raise DataError(f"no such file '{file}'", f"named in {path}", "mend the list")
    for file, times in Counter(file.resolve() for file in files).items():
        if times > 1:
            raise DataError(f"'{file}' is named {times} times", path, "name each file once")
    return files
