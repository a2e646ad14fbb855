"""What is run on every trained model: settings as published, and a study of each method; a file of results each.

Published means: Adam at the rate of the training, constant, for a tenth of the training's steps (both as in Xue et al.;
Bad Teacher at a tenth of that rate, as run by the authors of SSD), every weight 1, the l1 norm at the full rate, alpha
10 and lambda 1. Batches are of 4, not of 1. Tuned means the best feasible trial of a study by TPE, the same number of
trials for every method; the settings that a method gives as published are its first trials.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.outcome.runs import Made, Result, read, say
from benchmarks.outcome.runs import Plan as Searches
from benchmarks.papers.tasks import RATE, XUE, Case, make_task
from ssdtune.errors import ConfigError, SsdtuneError
from ssdtune.files import atomic_path
from ssdtune.learning.processes import run_in_processes
from ssdtune.objective.baseline import MIN_GAP
from ssdtune.objective.outcome import as_means
from ssdtune.progress import silent
from ssdtune.study.storage import quiet_optuna
from ssdtune.studyfile import DEFAULT_METHOD
from ssdtune.unlearning.method import Setting, run
from ssdtune.unlearning.methods import choose_method

METHODS = (
    *("ssd", "ssd-repair", "bad-teacher", "ga-l1", "nl", "ft", "full-ft", "ga-l1-ft", "nl-ft"),
    *(DEFAULT_METHOD, "ng"),
)
"""Those of the papers first, then ours: what is ranked."""

QUICK = ("ssd", "ssd-repair", "bad-teacher", "ga-l1", "nl", "ft@10", "nl-ft@10", DEFAULT_METHOD)
FRACTIONS = (1, 5, 10, 20, 50, 100)
SHARED = ("ft", "ga-l1-ft", "nl-ft")
"""Methods whose share of the retain data the papers vary."""

FIFTHS = ("ft@10", "full-ft", "ga-l1", "nl", "ga-l1-ft@10", "nl-ft@10")
"""Table 2: measured after each fifth of the published unlearning."""

GAMMAS = (1e-2, 1e-4, 1e-6)
"""The l1 norm of ``ga-l1`` and ``ga-l1-ft`` as published but weaker."""

BOUND, CORE = 0.95, "core_seconds"
TRAINING = {"ssd": 0, DEFAULT_METHOD: 130, "ft": 150, "full-ft": 150, "ga-l1": 130, "nl": 150, "ssd-repair": 140}
BOTH = 300
"""About how many slice passes a trial takes beside its evaluation (``BOTH`` where both sets are trained on)."""

STEPS_ARE_DEARER = 2.0


def base(label: str) -> str:
    return label.partition("@")[0]


def section_of(label: str) -> dict[str, Any]:
    """The ``[method]`` section of a label: a method's name, and after ``@`` the percentage of the retain data."""
    name, _, percent = label.partition("@")
    if not percent:
        return {"name": name}
    if float(percent) == 100 and name == "ft":
        return {"name": "full-ft"}
    return {"name": name, "retain_fraction": float(percent) / 100, "retain_slices": "all"}


@dataclass(frozen=True)
class Plan:
    """What is run: labels that are tuned and published, ``trials`` a study, half as many where fractions vary."""

    labels: tuple[str, ...]
    fractions: tuple[str, ...]
    trials: int
    seed: int
    work: Path

    def labels_of(self, case: Case) -> list[str]:
        """In the order in which they are run."""
        of_table = [f"{name}@10" for name in SHARED if name in self.labels]
        chosen = [label for label in (*self.labels, *of_table) if "@" not in label or case.paper == XUE]
        return list(dict.fromkeys([*chosen, *(self.fractions if case.paper == XUE else ())]))

    def budget(self, label: str) -> int:
        return self.trials if label in self.labels or base(label) + "@10" == label else max(self.trials // 2, 1)

    def folder(self, case: Case, model: int) -> Path:
        return self.work / f"seed{self.seed}-{self.trials}trials" / f"{case.key}-m{model}"

    def place(self, case: Case, model: int, kind: str, label: str) -> Path:
        return self.folder(case, model) / f"{kind}-{label}.json"

    def missing(self, case: Case, model: int) -> list[tuple[str, str]]:
        """(kind, label) of what has no file yet; none of a model that is no valid task."""
        if (self.folder(case, model) / "invalid").exists():
            return []
        return [
            (kind, label)
            for label in self.labels_of(case)
            for kind in ("published", "tuned")
            if not (kind == "published" and base(label) in OURS) and not self.place(case, model, kind, label).exists()
        ]


OURS = (DEFAULT_METHOD, "ng")
"""Methods that neither paper has."""


def plan_of(methods: Sequence[str], trials: int, seed: int, work: Path, quick: bool) -> Plan:
    """Labels whose methods are there; others are left out, and said.

    Raises
    ------
    SystemExit : no such method.
    """
    wanted = tuple(methods) or (QUICK if quick else METHODS)
    fractions = () if quick else tuple(f"{name}@{p}" for p in FRACTIONS for name in SHARED if (name, p) != ("ft", 100))
    there: dict[str, bool] = {}
    for name in dict.fromkeys(base(label) for label in (*wanted, *fractions)):
        try:
            choose_method({"name": name})
            there[name] = True
        except ConfigError as reason:
            if name not in METHODS:
                raise SystemExit(f"error: {reason}") from reason
            there[name] = False
            say(f"left out {name}: {reason}")
    kept = [tuple(label for label in labels if there[base(label)]) for labels in (wanted, fractions)]
    if methods:
        kept[1] = tuple(label for label in kept[1] if base(label) in methods)
    return Plan(kept[0], kept[1], trials, seed, work)


def estimate(plan: Plan, case: Case, model: int) -> float:
    """Seconds on one calm core for what is missing of a trained model."""
    missing = plan.missing(case, model)
    a_pass = case.measuring / case.scored
    seconds = case.making if missing and not (plan.folder(case, model) / "models.pt").exists() else 0.0
    for kind, label in missing:
        a_trial = case.measuring + TRAINING.get(base(label), BOTH) * a_pass * STEPS_ARE_DEARER
        seconds += plan.budget(label) * (a_trial + 0.05) if kind == "tuned" else 3 * a_trial
    return seconds


def run_all(plan: Plan, cases: Sequence[Case], models: int, workers: int) -> None:
    """Run what is missing: one model of each task before others, first tables before other shares."""
    jobs = [
        (part, case, model)
        for model in range(models)
        for part in (replace(plan, fractions=()), replace(plan, labels=()))
        for case in cases
        if part.missing(case, model)
    ]
    run_in_processes(run_model, jobs, workers, track=silent, description="papers")


def run_model(job: tuple[Plan, Case, int]) -> None:
    """Everything that is missing of one trained model."""
    plan, case, model = job
    torch.set_num_threads(1)
    quiet_optuna()
    folder = plan.folder(case, model)
    if not plan.missing(case, model):
        return
    folder.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    made = Made(make_task(case, model, folder / "models.pt"), case.key, model)
    say(f"{folder.name}: made in {time.process_time() - started:.0f} s")
    if made.gap < MIN_GAP:
        (folder / "invalid").write_text(f"gap {made.gap:.4f}\n")
        say(f"{folder.name}: nothing to forget, gap {made.gap:.3f}")
        return
    for kind, label in plan.missing(case, model):
        started = time.process_time()
        try:
            found = tune(plan, made, label) if kind == "tuned" else published(case, made, label)
        except SsdtuneError as reason:  # the others go on; it is kept, as a method may need what a task does not have
            found = {"label": label, "failed": str(reason)}
        found[CORE] = time.process_time() - started
        with atomic_path(plan.place(case, model, kind, label)) as path:
            path.write_text(json.dumps(found))
        say(f"{folder.name}: {kind} {label} in {found[CORE]:.0f} s{' failed' * ('failed' in found)}")


def tune(plan: Plan, made: Made, label: str) -> Result:
    searches = Searches({label: section_of(label)}, (BOUND,), plan.budget(label), plan.seed, plan.work)
    return made.search(label, section_of(label), BOUND, searches)


def published(case: Case, made: Made, label: str) -> Result:
    """``runs``: measures at the published setting, the last of them; before it those of each fifth of its steps, and
    apart those of weaker norms."""
    section = section_of(label)
    steps = case.unlearning_steps
    trains = base(label) != "ssd"
    if trains:
        section |= {"decay": False}
    chosen = choose_method(section)
    lacking = chosen.method.needs(made.task, chosen.options)
    if lacking is not None:
        raise ConfigError(f"method '{base(label)}' lacks {lacking}", case.key)
    unlearner = chosen.method.prepare(made.task, chosen.options, analyse=lambda: made.analysed[0], track=silent)

    def measured(setting: Setting) -> dict[str, Any]:
        stage = run(unlearner, setting, made.model)
        means = as_means(made.evaluator.measures(stage.params).summary())
        return {"setting": dict(setting), "cost": stage.cost, **means}

    own = literal(made, chosen.method.published(chosen.options)[-1], base(label), steps)
    runs = [own]
    if label in FIFTHS and case.paper == XUE:
        runs = [{**own, "steps": max(round(steps * fifth / 5), 1)} for fifth in range(1, 6)]
    weaker = [{**own, "gamma": gamma} for gamma in GAMMAS] if "gamma" in own and case.paper == XUE else []
    return {
        "label": label,
        "task": made.task.name,
        "model": made.model,
        "runs": [measured(setting) for setting in runs],
        "weaker": [measured(setting) for setting in weaker],
    }


def literal(made: Made, given: Setting, name: str, steps: int) -> dict[str, float]:
    """A method's published setting, with the length of its steps and their number as said above."""
    if "steps" not in given:  # no training, or one whose length and rate are options of another unit
        return dict(given)
    unit = math.sqrt(sum(value.numel() for value in made.task.params.values()))
    rate = RATE / 10 if name == "bad-teacher" else RATE
    changes = {"lr": rate * unit, "steps": steps}
    return {**given, **changes}


def read_all(plan: Plan, cases: Sequence[Case], models: int, kind: str) -> Iterator[tuple[Case, int, str, Result]]:
    """(case, model, label, result) of all that is there and did not fail."""
    for case in cases:
        for model in range(models):
            for label in plan.labels_of(case):
                found = read(plan.place(case, model, kind, label))
                if found is not None and "failed" not in found:
                    yield case, model, label, found


def failures(plan: Plan, cases: Sequence[Case], models: int) -> Mapping[str, str]:
    """What could not be run, and why."""
    found = {}
    for case in cases:
        for model in range(models):
            for kind in ("published", "tuned"):
                for label in plan.labels_of(case):
                    result = read(plan.place(case, model, kind, label))
                    if result is not None and "failed" in result:
                        found[f"{case.key}, {label}"] = result["failed"]
    return found
