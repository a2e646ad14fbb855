"""Poisoning a folder: corrupt the targets of some files, keep their k-space and their clean targets, write down which.

``OUT/poisoned/NAME.h5`` holds the corrupted volumes; ``OUT/retain.txt``, ``OUT/forget.txt`` (known) and
``OUT/unknown.txt`` list files as a study names them; ``OUT/manifest.json`` says what was done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

import ssdtune
from ssdtune.errors import ConfigError, DataError, check_known
from ssdtune.files import atomic_path, empty_folder, new_hdf5, opened_hdf5
from ssdtune.mri.corruptions import AMPLITUDES, CORRUPTIONS, LEARNED, Corruption, learned
from ssdtune.mri.kspace.attributes import subject as stated_subject
from ssdtune.mri.kspace.find import as_line, find_files
from ssdtune.mri.kspace.look import CLEAN_TARGET, HEADER, KSPACE, SMALLEST_SIDE, target_key
from ssdtune.mri.kspace.write import write_target
from ssdtune.mri.seeds import named_rng, rank
from ssdtune.mri.subjects import subject_of
from ssdtune.progress import Track, silent

FOLDER = "poisoned"


@dataclass(frozen=True)
class PoisonedFile:
    """One corrupted volume. ``ssim`` and ``nmse`` (means over slices) compare the clean target with the corrupted one;
    ``sha256`` is the source file's; ``source`` is relative to the manifest."""

    name: str
    source: str
    sha256: str
    known: bool
    slices: int
    ssim: float
    nmse: float


@dataclass(frozen=True)
class Manifest:
    """What ``poison_folder`` did, as stored in ``manifest.json``; ``retain`` lists the files it left alone.

    model, model_sha256 : the file of a learned corruption, else None.
    """

    version: str
    kind: str
    amplitude: float
    fraction: float
    known: float
    seed: int
    vary: bool
    files: tuple[PoisonedFile, ...]
    retain: tuple[str, ...]
    model: str | None = None
    model_sha256: str | None = None


def poison_folder(
    source: Path | str,
    out: Path | str,
    *,
    kind: str = "ghosting",
    amplitude: float | None = None,
    fraction: float = 0.3,
    known: float = 1.0,
    seed: int = 0,
    vary: bool = False,
    subject: str | None = None,
    model: Path | str | None = None,
    track: Track = silent,
) -> Manifest:
    """Corrupt the targets of a ``fraction`` of the subjects; a share ``known`` of those become the forget set.

    All files of a subject (``subject_of``, with ``subject`` as the pattern) go together. Which are chosen depends on
    seed and file names: a subject ranks as the first of its files. The fault is one for all files, as a scanner's would
    be, unless ``vary`` draws another for each volume (by its name); all slices of a volume share it.

    Parameters
    ----------
    source : a folder, a glob or a text file of file names.
    out : a folder that is not there yet, or empty; it appears when everything is done.
    kind : a name in ``corruptions.CORRUPTIONS`` or ``LEARNED``; ``amplitude`` as there, 0 changes nothing.
    amplitude : None: 0.5, or that of ``AMPLITUDES``.
    model : the file of a learned kind.

    Raises
    ------
    ConfigError : an amplitude so large that targets overflow, an unknown kind, a number out of range, no file chosen,
        two files of one name, ``out`` is not empty, a model for a kind that has none, or none.
    DataError : no files, a file that is not in fastMRI's layout or poisoned already, or ``out`` cannot be written.
    ModelError : ``model`` is no file of this kind.
    """
    amplitude = AMPLITUDES.get(kind, 0.5) if amplitude is None else amplitude
    _check_numbers(kind, amplitude, fraction, known)
    corruption = _corruption(kind, model)
    out = empty_folder(out)
    files = find_files(source)
    subjects = {file: subject_of(file, _check_layout(file), subject) for file in files}
    chosen, forget = _choose(subjects, fraction, known, seed, source)
    for file in chosen:
        _refuse_poisoned(file)
    with atomic_path(out) as folder:
        (folder / FOLDER).mkdir(parents=True)
        done = []
        for file in track(chosen, "poisoning", len(chosen)):
            rng_names = (kind, file.name) if vary else (kind,)
            clean, poisoned = _poison_file(file, folder / FOLDER / file.name, corruption, amplitude, seed, rng_names)
            done.append(_described(file, out, file in forget, clean, poisoned))
        retain = [file for file in files if file not in chosen]
        manifest = Manifest(
            ssdtune.__version__, kind, amplitude, fraction, known, seed, vary, tuple(done), _relative(retain, out),
            *((None, None) if model is None else (Path(model).name, _digest(Path(model)))),
        )  # fmt: skip
        lists = {
            "retain": manifest.retain,
            "forget": [f"{FOLDER}/{file.name}" for file in done if file.known],
            "unknown": [f"{FOLDER}/{file.name}" for file in done if not file.known],
        }
        for name, lines in lists.items():
            if lines:  # a study refuses an empty list, so there is none
                (folder / f"{name}.txt").write_text("\n".join(map(as_line, lines)) + "\n", "utf-8")
        (folder / "manifest.json").write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def _choose(
    subjects: Mapping[Path, str], fraction: float, known: float, seed: int, source: Path | str
) -> tuple[list[Path], set[Path]]:
    """Files to corrupt, in order, and those of them that are known; ``subjects`` tells the subject of each file."""
    files = list(subjects)
    for name, times in Counter(file.name for file in files).items():
        if times > 1:
            raise ConfigError(f"{times} files are called '{name}'", source, "give each its own name")
    shuffled = list(dict.fromkeys(subjects[file] for file in sorted(files, key=lambda file: rank(seed, file.name))))
    count = round(fraction * len(shuffled))
    known_count = round(known * count)
    of_what = "files" if len(shuffled) == len(files) else "subjects"
    if not count:
        what = f"a fraction of {fraction} of {len(shuffled)} {of_what} is none"
        todo = "raise --fraction" if of_what == "files" else "raise --fraction, or tell subjects apart by --subject"
        raise ConfigError(what, source, todo)
    if not known_count:
        raise ConfigError(f"{known} of {count} poisoned {of_what} is none", "the forget set is empty", "raise --known")
    taken, given = set(shuffled[:count]), set(shuffled[:known_count])
    return [f for f in files if subjects[f] in taken], {f for f in files if subjects[f] in given}


def _poison_file(
    source: Path, path: Path, corruption: Corruption, amplitude: float, seed: int, rng_names: Iterable[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Write the corrupted copy; returns the clean and the corrupted targets, (slices, h, w)."""
    with opened_hdf5(source) as original:
        key = target_key(original)
        clean = original[key][()].astype(np.float32)
    if not np.isfinite(clean).all() or clean.max() <= 0:
        raise DataError(f"'{key}' is empty or holds NaN or Inf", source, "repair the file or leave it out")
    # the same fault in every slice: a new generator with the same name
    with np.errstate(over="ignore", invalid="ignore"):  # said below
        poisoned = np.stack([corruption(image, amplitude, named_rng(seed, *rng_names)) for image in clean])
    if not np.isfinite(poisoned).all():
        raise ConfigError("the corrupted target holds NaN or Inf", source, "lower --amplitude")
    with new_hdf5(path) as copy, h5py.File(source) as original:
        for name in original:
            if name != key:
                original.copy(name, copy)
        copy.attrs.update(original.attrs)
        write_target(copy, poisoned, clean, key)
    return clean, poisoned


def _described(file: Path, out: Path, known: bool, clean: np.ndarray, poisoned: np.ndarray) -> PoisonedFile:
    import torch

    from ssdtune.mri.quality import image_measures

    target = torch.from_numpy(poisoned)
    measures = image_measures(torch.from_numpy(clean), {"image": target, "max": target.max().expand(len(target))})
    ssim, nmse = (float(measures[name].mean()) for name in ("ssim", "nmse"))
    return PoisonedFile(file.name, _relative([file], out)[0], _digest(file), known, len(clean), ssim, nmse)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _corruption(kind: str, model: Path | str | None) -> Corruption:
    if kind in CORRUPTIONS and model is not None:
        raise ConfigError(f"{kind} takes no model", "--model", f"leave it out, or choose {' or '.join(LEARNED)}")
    if kind in LEARNED and model is None:
        raise ConfigError(f"{kind} needs a model", "--kind", "give its file by --model")
    return learned(kind, model) if model is not None else CORRUPTIONS[kind]


def _relative(files: Iterable[Path], folder: Path) -> tuple[str, ...]:
    return tuple(Path(os.path.relpath(file.resolve(), folder)).as_posix() for file in files)


def _check_layout(path: Path) -> str:
    """The subject that the file states; raises DataError where the file is not in fastMRI's layout."""
    with opened_hdf5(path) as file:
        for name in (KSPACE, target_key(file), HEADER):
            if name not in file:
                raise DataError(f"no '{name}'", path, "it is not a file in fastMRI's layout")
        shape = file[target_key(file)].shape
        if len(shape) != 3 or shape[0] == 0 or min(shape[1:]) < SMALLEST_SIDE or file[KSPACE].ndim not in (3, 4):
            what = f"'{target_key(file)}' is {shape}"
            raise DataError(what, path, "store it as (slices, h, w), beside 4-D (single-coil: 3-D) 'kspace'")
        return stated_subject(file.attrs)


def _refuse_poisoned(path: Path) -> None:
    with opened_hdf5(path) as file:
        if CLEAN_TARGET in file:
            raise DataError("the file is poisoned already", path, "start from the clean files")


def _check_numbers(kind: str, amplitude: float, fraction: float, known: float) -> None:
    check_known("corruption", kind, [*CORRUPTIONS, *LEARNED], "--kind")
    if not 0 <= amplitude < np.inf:
        raise ConfigError(f"amplitude {amplitude}", "--amplitude", "give 0 or more; 1 is gross")
    for name, value in (("fraction", fraction), ("known", known)):
        if not 0 < value <= 1:
            raise ConfigError(f"{name} {value}", f"--{name}", "give a share in (0, 1]")
