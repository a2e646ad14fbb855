"""What the cells come to: ratios with intervals over tasks and seeds, and what retraining costs beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.harness import Metrics, table
from benchmarks.headline.cells import CLOSE, PARTS, SAMPLERS, WAYS

REMEDIES = {name: f"{name}.spectrum" for name in PARTS}
CELLS = (*(f"{way}.{sampler}" for way in WAYS for sampler in SAMPLERS), *REMEDIES.values())
SHIPPED, RIVAL = "fast.spectrum", "plain.tpe"
DRAWS = 2000
PAPER = {"retain": 5898, "forget": 536, "epochs": 50, "heldout": 500, "samples": 590}
"""Slices and epochs of Xue et al. (arXiv:2405.15517); how many retain slices score a study is our assumption, and so
are the samples of an analysis of a part, a tenth of the retain set (`[fisher] samples`; benchmarks.fidelity says what
that loses)."""


@dataclass(frozen=True)
class Task:
    """All results of one task: those of its cells by name, a seed each; the same number of seeds in every cell.

    untouched : the score of the model as it is.
    """

    name: str
    target: float
    untouched: float
    facts: Metrics
    cells: Mapping[str, Sequence[Metrics]]

    @property
    def counts(self) -> bool:
        """Whether there is anything to find: else the model as it is would be good enough, and time says nothing."""
        return self.target - CLOSE > self.untouched

    def values(self, cell: str, what: str) -> np.ndarray:
        return np.array([each[what] for each in self.cells[cell]], dtype=float)

    def speedup(self, seeds: np.ndarray | slice = slice(None), cell: str = SHIPPED) -> float:
        """Of mean seconds over ``seeds``."""
        return float(self.values(RIVAL, "seconds")[seeds].mean() / self.values(cell, "seconds")[seeds].mean())

    def retrain_ratio(self, seeds: np.ndarray | slice = slice(None), cell: str = SHIPPED) -> float:
        return float(self.values(cell, "passes")[seeds].mean() / self.facts["retraining"])

    @property
    def seeds(self) -> int:
        return len(self.cells[SHIPPED])


def summary(every: Sequence[Task]) -> Metrics:
    """The metrics of the tasks that count; ratios as their geometric mean, intervals by drawing tasks, and seeds within
    them."""
    tasks = [task for task in every if task.counts]
    speedups = [task.speedup() for task in tasks]
    found: Metrics = {
        **drawn("headline_speedup", tasks, Task.speedup, geometric),
        **drawn("worst_speedup", tasks, Task.speedup, min),
        "tasks_at_50x": float(np.mean([each >= 50 for each in speedups])),
        **drawn("retrain_ratio", tasks, Task.retrain_ratio, geometric),
        "worst_retrain_ratio": max(task.retrain_ratio() for task in tasks),
        "retrain_ratio_paper": paper_ratio(tasks),
        "retrain_ratio_paper_part": paper_ratio(tasks, PAPER["samples"]),
    }
    for name, cell in REMEDIES.items():
        found |= drawn(f"headline_speedup_{name}", tasks, partial(Task.speedup, cell=cell), geometric)
        found |= drawn(f"worst_speedup_{name}", tasks, partial(Task.speedup, cell=cell), min)
        found |= drawn(f"retrain_ratio_{name}", tasks, partial(Task.retrain_ratio, cell=cell), geometric)
    for cell in CELLS:
        found[f"cell.{cell}_s"] = float(np.mean([task.values(cell, "seconds").mean() for task in tasks]))
        found[f"cell.{cell}_trials"] = float(np.median([task.values(cell, "trials").mean() for task in tasks]))
        found[f"cell.{cell}_censored"] = float(np.mean([task.values(cell, "censored").mean() for task in tasks]))
    errors = [task.values(f"plain.{sampler}", "replay_error").max() for task in tasks for sampler in SAMPLERS]
    found |= {"tasks": len(tasks), "tasks_left_out": len(every) - len(tasks), "seeds": sum(t.seeds for t in tasks)}
    return {**found, "replay_error": float(max(errors))}


def geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def drawn(
    name: str,
    tasks: Sequence[Task],
    of: Callable[[Task, np.ndarray | slice], float],
    together: Callable[[Sequence[float]], float],
) -> Metrics:
    """A figure of all tasks with its 95 % interval: tasks are drawn with replacement, and seeds within each."""
    every = slice(None)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        chosen = [tasks[index] for index in rng.integers(len(tasks), size=len(tasks))]
        found.append(together([of(task, rng.integers(task.seeds, size=task.seeds)) for task in chosen]))
    low, high = np.quantile(found, [0.025, 0.975])
    return {name: together([of(task, every) for task in tasks]), f"{name}.lo": float(low), f"{name}.hi": float(high)}


def paper_ratio(tasks: Sequence[Task], samples: int = 10**9) -> float:
    """The same for a model trained on ``PAPER``'s slices, computed: an analysis takes a forward and a backward pass (3)
    of every retain and forget slice, or of ``samples`` of each set; the untouched model is scored on the held-out and
    the forget slices; the search takes the median trials, and of all slices the median share, that it took on the
    tasks. A retraining is ``epochs`` times 3 passes of the retain slices.
    """
    trials = np.median([task.values(SHIPPED, "trials").mean() for task in tasks])
    shares = [task.values(SHIPPED, "slices").sum() / task.values(SHIPPED, "possible").sum() for task in tasks]
    scored = PAPER["heldout"] + PAPER["forget"]
    analysed = min(PAPER["retain"], samples) + min(PAPER["forget"], samples)
    paid = 3 * analysed + scored * (1 + trials * float(np.median(shares)))
    return float(paid / (3 * PAPER["epochs"] * PAPER["retain"]))


def in_words(found: Metrics) -> list[str]:
    """The ratios, with their intervals."""

    def shown(name: str, digits: str) -> str:
        return f"{found[name]:{digits}} [{found[f'{name}.lo']:{digits}}, {found[f'{name}.hi']:{digits}}]"

    return [
        f"{found['tasks']:g} tasks count; on {found['tasks_left_out']:g} the model as it is would be good enough, as "
        f"nothing that the dense search finds is better by more than {CLOSE:g}.",
        f"Speed-up {shown('headline_speedup', '.1f')}, on the worst task {shown('worst_speedup', '.1f')}; "
        f"{found['tasks_at_50x']:.0%} of the tasks are at 50 or more. Passes over those of retraining: "
        f"{shown('retrain_ratio', '.3f')}, at the paper's sizes {found['retrain_ratio_paper']:.4f}, and "
        f"{found['retrain_ratio_paper_part']:.4f} with a tenth of the retain set analysed (both computed). "
        f"Largest difference of a stand-in's score: {found['replay_error']:.1g}.",
        *(
            f"Where the analysis takes a {name} of the retain set, and no more forget samples: speed-up "
            f"{shown(f'headline_speedup_{name}', '.1f')}, on the worst task {shown(f'worst_speedup_{name}', '.1f')}; "
            f"passes over those of retraining {shown(f'retrain_ratio_{name}', '.3f')}."
            for name in REMEDIES
        ),
    ]


def tables(tasks: Sequence[Task]) -> list[str]:
    """A row a task: the target, seconds and trials of each cell, the ratios."""

    def cell(task: Task, name: str) -> str:
        seconds, trials = task.values(name, "seconds").mean(), task.values(name, "trials").mean()
        censored = int(task.values(name, "censored").sum())
        return f"{seconds:.1f} ({trials:.1f}{f', {censored} of {task.seeds} censored' if censored else ''})"

    rows = [
        [
            task.name,
            f"{task.facts['parameters']:,.0f}",
            f"{task.facts['scored']:.0f}",
            task.seeds,
            f"{task.target:.3f}",
            *(cell(task, name) for name in CELLS),
            f"{task.speedup():.1f}" if task.counts else "left out",
            f"{task.retrain_ratio():.2f}",
        ]
        for task in tasks
    ]
    columns = ["task", "parameters", "slices scored", "seeds", "target", *(f"{name} s (trials)" for name in CELLS)]
    return table([*columns, "speed-up", "passes over retraining"], rows)
