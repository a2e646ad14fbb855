"""Hostile and broken inputs to the command line, drawn by a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

STUDY = """
name = "small"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
[method]
name = "ssd"
[score]
floor = 0.01
[search]
trials = 2
[train]
cascades = 1
channels = 2
pools = 2
sens_channels = 2
sens_pools = 2
"""

SECRET = "hunter2-secret"
CREATE = ["study", "create", "study.toml"]
# no NUL: no system passes one in an argument
_TEXTS = [
    "",
    "'",
    '"',
    "../../escape",
    "/etc/passwd",
    "a" * 5000,
    "é\u202e",
    "-1",
    "1e999",
    "nan",
    "{{7*7}}",
    "<b>",
    "$(id)",
]


@dataclass(frozen=True)
class Case:
    """A command in a sound folder that ``spoil`` has changed; ``codes`` it may end with."""

    kind: str
    arguments: list[str]
    spoil: Callable[[Path], None] = lambda folder: None
    codes: tuple[int, ...] = (2, 3, 4)


def cases(rng: random.Random, count: int) -> Iterator[Case]:
    """``count`` of them, kind by kind in turn."""
    kinds = [_file, _truncated, _hdf5, _checkpoint, _toml, _value, _url, _name, _option]
    for number in range(count):
        yield kinds[number % len(kinds)](rng)


def _file(rng: random.Random) -> Case:
    """Random bytes where a file is to be."""
    name, code = rng.choice([("model.pt", 3), ("study.toml", 2), ("retain/x.h5", 3)])
    content = rng.randbytes(rng.choice([0, 1, 100, 5000]))
    return Case("random bytes", CREATE, lambda folder: _write(folder / name, content), (code,))


def _truncated(rng: random.Random) -> Case:
    share = rng.random() * 0.95

    def cut(folder: Path) -> None:
        path = rng.choice([folder / "model.pt", *sorted((folder / "forget").glob("*.h5"))])
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return Case("truncated", CREATE, cut, (3,))


def _hdf5(rng: random.Random) -> Case:
    kind = rng.randrange(8)

    def spoil(folder: Path) -> None:
        path = sorted((folder / "forget").glob("*.h5"))[0]
        secret = sorted((folder / "retain").glob("*.h5"))[0].absolute()
        with h5py.File(path, "a") as file:
            kspace = file["kspace"][()]
            del file["kspace"]
            if kind == 0:
                file["kspace"] = h5py.ExternalLink(str(secret), "kspace")
            elif kind == 1:
                layout = h5py.VirtualLayout(kspace.shape, kspace.dtype)
                layout[:] = h5py.VirtualSource(str(secret), "kspace", kspace.shape, kspace.dtype)
                file.create_virtual_dataset("kspace", layout)
            elif kind == 2:
                file.create_dataset("kspace", (50_000, 16, 640, 368), "c8", chunks=(1, 1, 640, 368), compression="gzip")
            elif kind == 3:
                file.create_dataset("kspace", kspace.shape, h5py.ref_dtype)
            elif kind == 4:
                file["kspace"] = np.full_like(kspace, np.nan)
            elif kind == 5:
                file["kspace"] = kspace[0]
            elif kind == 6:
                file["kspace"] = h5py.SoftLink("/kspace")
            else:
                file["kspace"] = kspace
                file.attrs["max"] = rng.choice([-1.0, np.nan, np.inf, 0.0])

    return Case("hdf5", CREATE, spoil, (3,))


def _checkpoint(rng: random.Random) -> Case:
    import torch

    payload = rng.choice(
        [
            _Runs(),
            {"state_dict": {"a.b": torch.zeros(1).expand(10**9)}},
            {"state_dict": {"a.b": torch.zeros(3)}},
            [1, 2],
            {"state_dict": {}},
            {"state_dict": {"x.y": _Runs()}},
        ]
    )
    return Case("checkpoint", CREATE, lambda folder: torch.save(payload, folder / "model.pt"), (3,))


class _Runs:
    """Would write a file outside the folder if it were unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.system, ("touch ../escaped",)


def _toml(rng: random.Random) -> Case:
    def spoil(folder: Path) -> None:
        lines = STUDY.splitlines()
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(1, len(lines))
            lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)] + rng.choice("[]=\"'\\{}#\x07,")
        lines.append(rng.choice(["[", "x", "name = 3", "[unknown]", "= 1"]))
        (folder / "study.toml").write_text("\n".join(lines))

    return Case("toml", CREATE, spoil, (2,))


def _value(rng: random.Random) -> Case:
    """A key that has another kind of value, or one out of its range."""
    key = rng.choice(["trials", "floor", "checkpoint", "retain", "cascades", "name"])
    value = rng.choice(
        ["-3", '"\\u0000"', "[1, [2]]", "{a = 1}", "1e999", "inf", "nan", "2020-01-01", '"../../nowhere"']
    )

    def spoil(folder: Path) -> None:
        lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in STUDY.splitlines()]
        (folder / "study.toml").write_text("\n".join(lines))

    command = ["train", "study.toml", "--out", "new.pt", "--epochs", "1"] if key == "cascades" else CREATE
    return Case("value", command, spoil, (2, 3))


def _url(rng: random.Random) -> Case:
    url = rng.choice(
        [
            f"postgresql://lab:{SECRET}@127.0.0.1:1/x",
            f"postgresql://lab:{SECRET}@@127.0.0.1:1/x",
            f"postgres://lab:a@{SECRET}@127.0.0.1:1/x",
            f"mysql://lab:{SECRET}@127.0.0.1:1/x",
            f"postgresql://lab:{SECRET}@127.0.0.1:port/x",
            f"nonsense://lab:{SECRET}@h/x",
            f"postgresql://127.0.0.1:1/x?password={SECRET}",
            f"postgresql://lab:{SECRET}",
            f"lab:{SECRET}@h",
            "sqlite:////proc/self/mem",
            "sqlite:///study.toml",
            "sqlite:///retain",
            "journal:///study.toml",
            "journal://host/x",
            "grpc://127.0.0.1:1",
            "grpc://",
            "redis://x",
            "://",
        ]
    )
    command = rng.choice(
        [["study", "list"], ["worker", "--patience", "0"], ["study", "run", "small"], ["dashboard", "--port", "0"]]
    )
    return Case("url", [*command, "--storage", url], codes=(2, 4))


def _name(rng: random.Random) -> Case:
    name = rng.choice([*_TEXTS, "..", "a/b", ".hidden", "a b", "x" * 201, "a\nb"])
    command = rng.choice(
        [
            [*CREATE, "--name"],
            ["study", "show"],
            ["study", "run"],
            ["report"],
            ["study", "best"],
        ]
    )
    return Case("name", [*command, name] if command[-1] == "--name" else [*command, "--", name], codes=(2, 4))


def _option(rng: random.Random) -> Case:
    text = rng.choice(_TEXTS)
    command = rng.choice(
        [
            [*CREATE, "--trials"],
            [*CREATE, "--sampler"],
            [*CREATE, "--method"],
            ["worker", "--watch"],
            ["worker", "--device"],
            ["dashboard", "--host"],
            ["dashboard", "--token-file"],
            ["dashboard", "--artifacts"],
            ["data", "poison", "forget", "--out"],
            ["data", "check"],
        ]
    )
    return Case("option", [*command, text], codes=(2, 3, 4))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
