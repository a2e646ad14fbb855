"""How good a mapper of this experience is on families it has not seen: calibration, and the first trial's regret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from ssdtune.arrays import Array
from ssdtune.prior.calibration import LEVELS, Calibration, HeldOut, log_likelihood
from ssdtune.prior.points import Points
from ssdtune.surrogate.improvement import Goal, expected_improvement

SETTINGS = {
    f"w{weight}{f'_min{least}' if least else ''}": Goal(weight, least) for least in (0.0, 0.95) for weight in (0.2, 0.5)
}
"""The goals that regret is shown for."""

COVERAGES = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class TaskAssessment:
    """One task, predicted by networks that have not seen its family.

    log_likelihood : per independent setting. rmse : of (retained, remembered), squashed. covered : share of settings
    inside the central interval, by ``COVERAGES``, of (retained, remembered). regret : of the first trial, chosen among
    the task's own settings, by ``SETTINGS``.
    """

    key: str
    family: str
    log_likelihood: float
    rmse: Sequence[float]
    covered: Sequence[Sequence[float]]
    regret: dict[str, float]


@dataclass(frozen=True, eq=False)
class Assessment:
    """All held-out tasks, each by its key."""

    tasks: list[TaskAssessment]

    def summary(self) -> dict[str, float]:
        """Means over tasks as ``{name: number}``; regrets also as medians."""
        if not self.tasks:
            return {"tasks": 0.0}
        found = {
            "tasks": float(len(self.tasks)),
            "families": float(len({task.family for task in self.tasks})),
            "log_likelihood": float(np.mean([task.log_likelihood for task in self.tasks])),
        }
        for j, output in enumerate(("retained", "remembered")):
            found[f"rmse_{output}"] = float(np.sqrt(np.mean([task.rmse[j] ** 2 for task in self.tasks])))
            for level, share in zip(COVERAGES, np.mean([task.covered[j] for task in self.tasks], axis=0), strict=True):
                found[f"coverage{100 * level:g}_{output}"] = float(share)
        for name in SETTINGS:
            regrets = [task.regret[name] for task in self.tasks]
            found[f"{name}.regret"], found[f"{name}.median_regret"] = float(np.mean(regrets)), float(np.median(regrets))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values of every task."""
        return {"tasks": [asdict(task) for task in self.tasks]}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Assessment:
        """Inverse of ``to_json``."""
        return cls([TaskAssessment(**task) for task in raw["tasks"]])


def assess(predicted: Sequence[tuple[Points, HeldOut]], calibration: Calibration) -> Assessment:
    """Compare predictions of tasks that were held out with what was recorded."""
    tasks = [_assess(own, task, calibration) for own, task in predicted]
    return Assessment(sorted(tasks, key=lambda task: task.key))


def _assess(own: Points, task: HeldOut, calibration: Calibration) -> TaskAssessment:
    error = task.y - task.members.mean(axis=0)
    return TaskAssessment(
        key=own.key,
        family=own.family,
        log_likelihood=log_likelihood(task, calibration),
        rmse=(_rms(error[:, 0]), _rms(error[:, 1])),
        covered=(_covered(task, calibration, 0), _covered(task, calibration, 1)),
        regret={name: first_regret(own, task, calibration, goal) for name, goal in SETTINGS.items()},
    )


def first_regret(own: Points, task: HeldOut, calibration: Calibration, goal: Goal) -> float:
    """Best s of the task's settings, or the untouched model's, less that of the one with the largest expected
    improvement."""
    truth = np.where(goal.feasible(own.y[:, 0]), goal.score(own.y[:, 0], own.y[:, 1]), goal.untouched)
    best = max(float(truth.max()), goal.untouched)
    sd = calibration.sd_at(task.members.mean(axis=0).T)
    cov = np.zeros((2, 2, len(own.y)))
    cov[0, 0], cov[1, 1] = sd**2
    gain = expected_improvement(np.swapaxes(task.members, 1, 2), cov, goal.untouched, goal).mean(axis=0)
    return best - max(float(truth[int(np.argmax(gain))]), goal.untouched)


def _covered(task: HeldOut, calibration: Calibration, j: int) -> tuple[float, ...]:
    """Shares of settings whose place in the predicted mixture lies in the central interval."""
    members = task.members[:, :, j]
    sd = np.interp(members, LEVELS, calibration.residual_sd[j])
    place = ndtr((task.y[:, j] - members) / sd).mean(axis=0)
    return tuple(float(np.mean(np.abs(place - 0.5) <= level / 2)) for level in COVERAGES)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
