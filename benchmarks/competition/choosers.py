"""Choosers without any search on recorded tasks: the regret of the one setting that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.competition.replay import Replay
from benchmarks.competition.rivals import CHOOSERS, PUBLISHED, Setting, percentile_setting, step_rule
from benchmarks.competition.runs import BOX, SETTINGS
from benchmarks.harness import Metrics, table
from ssdtune.plane.settings import KAPPA_RANGE, RHO_RANGE, Settings
from ssdtune.surrogate.improvement import Goal

_RHO, _KAPPA = (
    axis.ravel() for axis in np.meshgrid(np.geomspace(*RHO_RANGE, 18), np.geomspace(*KAPPA_RANGE, 8), indexing="ij")
)


def values_on_grid(replay: Replay, goal: Goal) -> np.ndarray:
    """s at every (rho, kappa) of an even grid, clipped into the box; w where infeasible: the user keeps the model."""
    alpha = np.array([replay.alpha_at(rho) for rho in _RHO])
    inside = BOX.clip(Settings(alpha, alpha * _KAPPA))
    s, feasible = replay.scores(inside.alpha, inside.lam, goal)
    return np.where(feasible, s, goal.untouched)


def regret_at(replay: Replay, setting: Setting, goal: Goal, best: float) -> float:
    s, feasible = replay.scores(setting.alpha, setting.lam, goal)
    return best - (float(s[0]) if feasible[0] else goal.untouched)


def chosen(name: str, replay: Replay) -> tuple[Setting, int]:
    """The setting that a rule names, and how many evaluations it took."""
    if name == "assd":
        return percentile_setting(replay, replay.phi), 0
    if name == "ptn":
        return step_rule(replay, replay.phi, lambda at: float(replay.outputs(at.alpha, at.lam)[1, 0]))
    return PUBLISHED, 0


def measure_choosers(replays: Sequence[Replay], best: Callable[[str, str], float], lines: list[str]) -> Metrics:
    """Mean and median regret of every chooser, tasks counting alike; ``best-fixed`` is learned from other families."""
    metrics: Metrics = {}
    choices = {name: {r.key: chosen(name, r) for r in replays} for name in CHOOSERS if name != "best-fixed"}
    steps = [count for _, count in choices["ptn"].values()]
    metrics["ptn.median_evaluations"] = float(np.median(steps))
    for setting, goal in SETTINGS.items():
        grid = {r.key: values_on_grid(r, goal) for r in replays}
        found = {
            name: [regret_at(r, own[r.key][0], goal, best(setting, r.key)) for r in replays]
            for name, own in choices.items()
        }
        found["best-fixed"] = []
        for r in replays:
            others = np.mean([grid[other.key] for other in replays if other.family != r.family], axis=0)
            found["best-fixed"].append(best(setting, r.key) - grid[r.key][int(np.argmax(others))])
        for name, regrets in found.items():
            metrics[f"{setting}.chooser_regret.{name}"] = float(np.mean(regrets))
            metrics[f"{setting}.chooser_median_regret.{name}"] = float(np.median(regrets))
    rows = [
        [
            name,
            *(
                f"{metrics[f'{s}.chooser_regret.{name}']:.3f} ({metrics[f'{s}.chooser_median_regret.{name}']:.3f})"
                for s in SETTINGS
            ),
        ]
        for name in CHOOSERS
    ]
    lines += [
        "",
        f"Choosers without search: regret, mean (median) over {len(replays)} tasks; an infeasible choice leaves the "
        f"model untouched. PTN took {np.median(steps):g} evaluations (median).",
        "",
        *table(["chooser", *SETTINGS], rows),
        "",
        *(f"- {name}: {words}" for name, words in CHOOSERS.items()),
    ]
    return metrics
