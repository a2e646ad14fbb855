"""Quality by volume: the slices of the untouched model and of the best trial, averaged within each volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ssdtune.report.page import Table
from ssdtune.report.view import StudyView
from ssdtune.study.record import read_columns

MOST = 10
"""Rows of the table of volumes, in all sets together."""


@dataclass(frozen=True, eq=False)
class Volumes:
    """The volumes of one set, (v,) each: names, numbers of slices, and mean q of the untouched model and the best.

    ``best`` is None where no trial evaluated in full is near, or its slices were not kept.
    """

    names: list[str]
    slices: np.ndarray
    untouched: np.ndarray
    best: np.ndarray | None = None

    @property
    def change(self) -> np.ndarray:
        """best - untouched; 0 without a best."""
        return np.zeros(len(self.names)) if self.best is None else self.best - self.untouched

    def spread(self) -> dict[str, float]:
        """Standard deviation over volumes by label, as the labels of ``StudyView.measure_table``."""
        if self.best is None:
            return {"original": float(self.untouched.std(ddof=1))}
        columns = {"original": self.untouched, "best": self.best, "change": self.change}
        return {label: float(column.std(ddof=1)) for label, column in columns.items()}


def volumes_of(view: StudyView) -> Mapping[str, Volumes]:
    """The volumes of each scored set that has more than one; none in studies that did not keep their slices.

    A slice's volume is what stands before the last ``:`` of its name.
    """
    kept = view.slices
    if kept is None or kept.ids is None or kept.order is None:
        return {}
    measured = read_columns(view.best.trial) if view.best is not None else {}
    found = {}
    for name, ids in kept.ids.items():
        labels = [text.rpartition(":")[0] for text in ids]
        names = list(dict.fromkeys(labels))
        if len(names) < 2:
            continue
        number = {volume: place for place, volume in enumerate(names)}
        group = np.array([number[label] for label in labels])
        slices = np.bincount(group)
        untouched = np.bincount(group, kept.columns[name][view.record.quality]) / slices
        best = None
        if len(measured.get(name, ())) == len(ids):
            best = np.bincount(group[np.array(kept.order[name])], measured[name]) / slices
        found[name] = Volumes(names, slices, untouched, best)
    return found


def volume_table(volumes: Mapping[str, Volumes], labels: Mapping[str, str], most: int = MOST) -> Table:
    """The volumes whose quality changed the most, at most ``most`` in all; ``labels`` are what sets are called."""
    rows: list[list[object]] = []
    for name, found in volumes.items():
        order = np.argsort(-np.abs(found.change), kind="stable")[: max(most // len(volumes), 1)]
        for place in order:
            row = [
                labels.get(name, name),
                found.names[place],
                int(found.slices[place]),
                f"{found.untouched[place]:.4f}",
            ]
            if found.best is not None:
                row += [f"{found.best[place]:.4f}", f"{found.change[place]:+.4f}"]
            rows.append([*row, *[""] * (6 - len(row))])
    return Table(["set", "volume", "slices", "untouched", "best", "change"], rows, numeric=range(2, 6))
