"""Experience: what one task taught, and the HDF5 file of many (no pickle).

Layout: one group a task, named by its key, holding the datasets ``design`` (alpha, lambda and the measures, one row
each) and ``damage_N`` (the analysis's condensed damage tables, those of one shape together), each with the attribute
``names`` of its rows; and as attributes the recipe (JSON), family, features, baseline and oracle measures. A rejected
task is a group with the attribute ``rejected`` (why) and its recipe alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ssdtune.errors import DataError
from ssdtune.files import atomic_path, new_hdf5

FORMAT = 4
BUNDLED = Path(__file__).with_name("data") / "experience.h5"
"""The collection that the bundled mapper was fitted to; in the repository, too large for wheels."""

BUNDLED_SHA256 = "563db305fc33b1696557b00d14e8de309dcb676612c3f72224c16158e63a6471"


@dataclass(frozen=True, eq=False)
class Response:
    """A task's response to one method, at n settings.

    knobs : values of each, (n,). measures : of the unlearned models, each (n,). passes : (n,) what the updates cost.
    notes : what the method says of a setting beforehand, each (n,).
    """

    knobs: Mapping[str, np.ndarray]
    measures: Mapping[str, np.ndarray]
    passes: np.ndarray
    notes: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Experience:
    """One task's response surface and everything the mapper may know of it beforehand.

    recipe : how to make the task again. family : what is held out together.
    baseline, oracle : measures of the untouched and of the oracle model, ``{set}_{measure}``.
    q_retain, q_forget : names of the columns that are the qualities q.
    alpha, lam : (n,) the design. measures : each (n,).
    features : of the analysis. tables : arrays from which damage terms at any (alpha, lambda) follow.
    responses : to the methods beside SSD, by name. scales : what makes their knobs dimensionless (``responses``).
    """

    key: str
    family: str
    recipe: Mapping[str, Any]
    q_retain: str
    q_forget: str
    baseline: Mapping[str, float]
    oracle: Mapping[str, float]
    alpha: np.ndarray
    lam: np.ndarray
    measures: Mapping[str, np.ndarray]
    features: Mapping[str, float]
    tables: Mapping[str, np.ndarray]
    seconds: Mapping[str, float] = field(default_factory=dict)
    responses: Mapping[str, Response] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def floor(self) -> float:
        """Forget quality of the oracle."""
        return self.oracle[self.q_forget]

    @property
    def floor_ratio(self) -> float:
        """Floor over the untouched model's forget quality."""
        return self.floor / self.baseline[self.q_forget]

    @property
    def retain_ratio(self) -> np.ndarray:
        """q_r(theta') / q_r(theta) at every design point, unclipped; 0 where the output was not finite."""
        return np.nan_to_num(self.measures[self.q_retain] / self.baseline[self.q_retain])

    @property
    def forget_ratio(self) -> np.ndarray:
        """q_f(theta') / q_f(theta) at every design point, unclipped; 0 where the output was not finite."""
        return np.nan_to_num(self.measures[self.q_forget] / self.baseline[self.q_forget])


@dataclass(frozen=True)
class Rejected:
    """A task that taught nothing (q_f(original) - q_f(oracle) is not clearly positive), and why."""

    key: str
    family: str
    recipe: Mapping[str, Any]
    reason: str


def save_collection(path: Path | str, records: Iterable[Experience | Rejected]) -> None:
    """Write a collection as one HDF5 file, whole or not at all."""
    with atomic_path(path) as temporary, new_hdf5(temporary, "v110") as file:
        file.attrs["format"] = FORMAT
        for record in records:
            _write(file, record)


def load_collection(path: Path | str) -> Iterator[Experience | Rejected]:
    """Stream the records of a collection in order of their keys.

    Raises DataError: the file is missing, broken, or of another format.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(f"not a collection of format {FORMAT}", path, "collect again")
            for key in file:
                yield _read(key, file[key])
    except OSError as reason:
        raise DataError("cannot read the collection", path, "collect again, or name another file") from reason


def collection_hash(path: Path | str) -> str:
    """SHA-256 of a collection's file, by which a mapper names what it was fitted to. Raises DataError: as reading."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as reason:
        raise DataError("cannot read the collection", path, "collect again, or name another file") from reason


def _write(file: h5py.File, record: Experience | Rejected) -> None:
    group = file.create_group(record.key)
    group.attrs["family"] = record.family
    group.attrs["recipe"] = json.dumps(record.recipe)
    if isinstance(record, Rejected):
        group.attrs["rejected"] = record.reason
        return
    for name in ("q_retain", "q_forget"):
        group.attrs[name] = getattr(record, name)
    for name in ("baseline", "oracle", "features", "seconds", "scales"):
        group.attrs[name] = json.dumps(dict(getattr(record, name)))
    _stack(group, "design", {"alpha": record.alpha, "lambda": record.lam, **record.measures})
    for name, response in record.responses.items():
        parts = {part: getattr(response, part) for part in ("knobs", "measures", "notes")}
        columns = {f"{part}.{n}": column for part, found in parts.items() for n, column in found.items()}
        _stack(group, f"response_{name}", {"passes": response.passes, **columns})
    shapes = dict.fromkeys(table.shape for table in record.tables.values())
    for number, shape in enumerate(shapes):
        _stack(group, f"damage_{number}", {n: table for n, table in record.tables.items() if table.shape == shape})


def _stack(group: h5py.Group, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays of one shape as one dataset: many small ones would take more room for their headers than for numbers."""
    stacked = np.stack([np.asarray(values, np.float32) for values in arrays.values()])
    dataset = group.create_dataset(name, data=stacked, chunks=stacked.shape, compression="gzip", shuffle=True)
    dataset.attrs["names"] = json.dumps(list(arrays))


def _unstack(dataset: h5py.Dataset) -> dict[str, np.ndarray]:
    return dict(zip(json.loads(dataset.attrs["names"]), dataset[()].astype(float), strict=True))


def _read(key: str, group: h5py.Group) -> Experience | Rejected:
    family, recipe = str(group.attrs["family"]), json.loads(group.attrs["recipe"])
    if "rejected" in group.attrs:
        return Rejected(key, family, recipe, str(group.attrs["rejected"]))
    columns = _unstack(group["design"])
    tables = [_unstack(dataset) for name, dataset in group.items() if name.startswith("damage_")]
    values = {name: json.loads(group.attrs[name]) for name in ("baseline", "oracle", "features", "seconds")}
    responses = {n.removeprefix("response_"): _response(d) for n, d in group.items() if n.startswith("response_")}
    return Experience(
        key=key,
        family=family,
        recipe=recipe,
        q_retain=str(group.attrs["q_retain"]),
        q_forget=str(group.attrs["q_forget"]),
        alpha=columns.pop("alpha"),
        lam=columns.pop("lambda"),
        measures=columns,
        tables={name: table for stacked in tables for name, table in stacked.items()},
        responses=responses,
        scales=json.loads(group.attrs.get("scales", "{}")),
        **values,
    )


def _response(dataset: h5py.Dataset) -> Response:
    columns = _unstack(dataset)
    passes = columns.pop("passes")
    parts: dict[str, dict[str, np.ndarray]] = {"knobs": {}, "measures": {}, "notes": {}}
    for name, column in columns.items():
        part, _, own = name.partition(".")
        parts[part][own] = column
    return Response(passes=passes, **parts)
