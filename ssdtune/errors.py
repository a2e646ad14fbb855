"""Errors a user can act on: one line that says what, where and what to do, and the exit code that goes with it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from importlib.util import find_spec
from pathlib import Path


class SsdtuneError(Exception):
    """Base of every error that the command line prints as one line.

    what : what is wrong, e.g. "no 'kspace' dataset".
    where : the file, key or study concerned.
    todo : what the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, where: object = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, str(where), todo
        super().__init__(", ".join(part for part in (what, self.where, todo) if part))


class ConfigError(SsdtuneError):
    """Wrong usage or a wrong study file."""

    exit_code = 2


class DataError(SsdtuneError):
    """A data file that cannot be used."""

    exit_code = 3


class ModelError(SsdtuneError):
    """A model file that cannot be used or written."""

    exit_code = 3


class StorageError(SsdtuneError):
    """A storage that cannot be opened, or a study that is not (or already) in it."""

    exit_code = 4


class TrialError(SsdtuneError):
    """A trial that failed."""

    exit_code = 5


def check_installed(package: str, extra: str, where: object = "") -> None:
    """Raise ConfigError unless an optional package is installed; ``extra`` is the one of ssdtune that brings it."""
    if find_spec(package) is None:
        raise ConfigError(f"the package {package} is missing", where, f"pip install 'ssdtune[{extra}]'")


def check_known(what: str, name: str, names: Collection[str], where: object) -> None:
    """Raise ConfigError unless ``name`` is one of ``names``; it names the nearest. ``what`` : kind of thing it is."""
    if name not in names:
        raise ConfigError(f"unknown {what} '{name}'", where, nearest(name, names) or f"choose from {', '.join(names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """``did you mean 'x'?`` with the one of ``names`` that looks most like ``name``; nothing where none does."""
    folded = {each.lower(): each for each in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f"did you mean '{folded[near[0]]}'?" if near else ""


def near_file(path: Path | str) -> str:
    """What to do where no file is at ``path``: the name in its folder that looks most like it, else check the path.

    Names that differ in their digits alone are files of a series, none of which is meant by another.
    """
    path = Path(path)
    try:
        names = {each.name for each in path.parent.iterdir()}
    except OSError:
        names = set()
    if path.name not in names:
        plain = re.sub(r"\d", "", path.name)
        names = {name for name in names if re.sub(r"\d", "", name) != plain}
        for name in difflib.get_close_matches(path.name, sorted(names), n=1, cutoff=0.8):
            return f"did you mean '{path.with_name(name)}'?"
    return "check the path"
