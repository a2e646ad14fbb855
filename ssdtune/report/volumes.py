"""Quality by volume: the slices of the untouched model and of the best trial, averaged within each volume.

Also what follows from it: how sure ``retained`` is, and which slices are worth a look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy import special

from ssdtune.report.page import Table
from ssdtune.report.view import StudyView
from ssdtune.study.record import read_columns
from ssdtune.task import volume_of

MOST = 10
"""Rows of the table of volumes, in all sets together."""


LEVEL = 0.95
"""Of intervals."""


@dataclass(frozen=True)
class Interval:
    """A paired interval of ``retained`` at ``LEVEL`` over so many ``volumes``; ``bound`` is the least asked for."""

    low: float
    high: float
    volumes: int
    bound: float

    def in_words(self) -> str:
        """With how it was come by, and what it says of the bound."""
        where = "above" if self.low >= self.bound else "below" if self.high < self.bound else "around"
        return (
            f"{self.low:.1%} to {self.high:.1%} ({LEVEL:.0%} interval, paired t over {self.volumes} volumes), "
            f"{where} the bound of {self.bound:.0%}"
        )

    def document(self) -> dict[str, float | int | str]:
        """As plain JSON values."""
        return {**asdict(self), "level": LEVEL, "method": "paired Student's t over volumes, ratio of means"}


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


def retained_interval(view: StudyView) -> Interval | None:
    """The interval of the best trial's ``retained``; None without a best, or where the retain set has one volume.

    A ratio of two means over the same slices: volumes are the sample, slices the sizes of them. The standard error is
    that of the linearised ratio R (Cochran, Sampling Techniques, 1977, eq. 6.13): with d_v = n_v (q'_v - R q_v),
    se = sqrt(Σ d_v² V / (V - 1)) / Σ n_v q_v, and Student's t has V - 1 degrees of freedom.
    """
    found = volumes_of(view).get("retain")
    if found is None or found.best is None:
        return None
    count = len(found.names)
    before, after = found.slices * found.untouched, found.slices * found.best
    ratio = after.sum() / before.sum()
    error = np.sqrt(np.square(after - ratio * before).sum() * count / (count - 1)) / abs(before.sum())
    reach = float(special.stdtrit(count - 1, (1 + LEVEL) / 2)) * float(error)
    return Interval(float(ratio) - reach, float(ratio) + reach, count, view.record.rule.min_retained)


WORST, CHANGED = "the worst after", "changed the most"


def notable_slices(view: StudyView) -> dict[str, dict[str, int]]:
    """Of each scored set the index of the slice whose q the best trial changed the most, and of the worst after it.

    One of them where it is both; sets whose slices were not kept are not there.
    """
    kept = view.slices
    if kept is None or kept.order is None or view.best is None:
        return {}
    found = {}
    for name, after in read_columns(view.best.trial).items():
        order = np.array(kept.order.get(name, ()))
        if len(order) != len(after) or not len(order) or not np.isfinite(after).any():
            continue
        own = np.empty(len(after))
        own[order] = after
        change = np.abs(own - kept.columns[name][view.record.quality])
        found[name] = {CHANGED: int(np.nanargmax(change))}
        if (worst := int(np.nanargmin(own))) != found[name][CHANGED]:
            found[name][WORST] = worst
    return found


def volumes_of(view: StudyView) -> Mapping[str, Volumes]:
    """The volumes of each scored set that has more than one; none in studies that did not keep their slices."""
    kept = view.slices
    if kept is None or kept.ids is None or kept.order is None:
        return {}
    measured = read_columns(view.best.trial) if view.best is not None else {}
    found = {}
    for name, ids in kept.ids.items():
        labels = list(map(volume_of, ids))
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
