"""The house: how long the package is, which way its imports run, who knows alpha, and what a search costs by itself.

`package_lines`, `files`, `largest_file`: lines of the Python files under ssdtune/. `circles`: groups of modules that
import each other, in functions too; imports for type checking alone do not count. `upward_imports`: of modules from a
room above theirs. `files_naming_alpha`: files outside the SSD method, its prior and its report (`SSD`) with an
identifier `alpha` or `lam`. `overhead_ms_100_trials`: what a trial of a study on an SQLite file takes besides its
evaluation, median of trials 90 to 100, with the sampler that a study has if none is named; `overhead_ms_spectrum` is
that of SSD's, and `overhead_ms_read_back` the first without ``study.own``, which spares reading a trial back.
`paper_trial_share`: `overhead_ms_100_trials` beside the least that a trial of the paper's VarNet at 256 pixels and 15
coils takes to evaluate, the first look's slices of two sets, from one of them timed.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.harness import Metrics, main
from benchmarks.imports import ROOT, Graph, import_graph, reachable, read_sources

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from ssdtune.task import Task

PACKAGE = ROOT / "ssdtune"

# lowest floor first; a module may import from its own floor and from those below
FLOORS = [
    ["errors", "faults", "places", "untrusted"],
    ["arrays", "device", "files", "knob", "modules", "nests", "progress"],
    ["studyfile"],
    ["task"],
    ["subset"],
    ["mri", "vision"],
    ["dampening"],
    ["fisher"],
    ["plane"],
    ["surrogate"],
    ["prior"],
    ["unlearning"],
    ["objective"],
    ["audit"],
    ["learning"],
    ["samplers"],
    ["study"],
    ["report"],
    ["cli"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

# the SSD method, its prior and its report, which may speak of alpha and lambda
SSD = (
    "unlearning/ssd*.py",
    "dampening.py",
    *(f"{room}/*.py" for room in ("fisher", "plane", "surrogate", "prior", "learning")),
    "samplers/spectrum.py",
    "samplers/acquisition.py",
    "report/*plane*.py",
    "report/spectrum*.py",
)


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def package_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """The modules of the package that each of them imports."""
    return import_graph({name: text for name, text in read_sources(root).items() if name.split(".")[0] == "ssdtune"})


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules in which each imports each other, itself or through others."""
    reached = {name: reachable(graph, name) for name in graph}
    groups = {frozenset(n for n in reached[name] if name in reached[n]) for name in graph if name in reached[name]}
    return sorted(map(sorted, groups))


def upward_imports(graph: Graph) -> list[tuple[str, str]]:
    """(module, what it imports) where that is on a floor above; the package itself is on none."""
    pairs = [(name, other) for name, others in graph.items() for other in sorted(others)]
    return [(a, b) for a, b in pairs if FLOOR.get(room(b), -1) > FLOOR.get(room(a), len(FLOORS))]


def room(module: str) -> str:
    """``mri`` of ``ssdtune.mri.task``; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def identifiers(path: Path) -> set[str]:
    """Every name that the code of a file gives or uses; words of strings and comments are none."""
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if not isinstance(node, ast.Constant))
    return {value for node in nodes for _, value in ast.iter_fields(node) if isinstance(value, str)}


def naming_alpha() -> list[str]:
    """Files outside ``SSD`` that name alpha or lam."""
    allowed = {path for pattern in SSD for path in PACKAGE.glob(pattern)}
    found = [path for path in package_files() if path not in allowed and identifiers(path) & {"alpha", "lam"}]
    return [str(path.relative_to(PACKAGE)) for path in found]


def measure(options: argparse.Namespace) -> Metrics:
    lines = {path: path.read_text().count("\n") for path in package_files()}
    graph = package_graph()
    found: dict[str, Sequence[str | Sequence[str]]] = {
        "circles": circles(graph),
        "upward imports": upward_imports(graph),
        "files naming alpha": naming_alpha(),
    }
    for what, places in found.items():
        print(f"{what}:", *(place if isinstance(place, str) else ", ".join(place) for place in places), sep="\n  ")
    overhead = overhead_ms(100, options.seed)
    return {
        "package_lines": sum(lines.values()),
        "files": len(lines),
        "largest_file": max(lines.values()),
        **{what.replace(" ", "_"): len(places) for what, places in found.items()},
        "overhead_ms_100_trials": overhead,
        "overhead_ms_spectrum": overhead_ms(100, options.seed, {"name": "ssd"}),
        "overhead_ms_read_back": read_back(lambda: overhead_ms(100, options.seed)),
        "paper_trial_share": overhead / (overhead + paper_trial_ms(options.device)),
    }


def paper_trial_ms(device: str) -> float:
    """Milliseconds that the paper's VarNet takes at least to evaluate a trial at 256 pixels."""
    from benchmarks.trial_cost.growth import random_case
    from benchmarks.trial_cost.tasks import Sizes
    from ssdtune.objective.evaluator import Evaluator
    from ssdtune.objective.stopping import FIRST_LOOK

    case = random_case(Sizes(pixels=256, coils=15, cascades=12, channels=18, pools=4), 2, device, sens=(8, 4))
    measured = Evaluator(case.task).start({name: 0.99 * value for name, value in case.task.params.items()})
    measured.extend("retain", 1)  # prepares and warms up
    started = time.perf_counter()
    measured.extend("retain", 2)
    return 1e3 * (time.perf_counter() - started) * 2 * FIRST_LOOK


def read_back(run: Callable[[], float]) -> float:
    """``run`` where a study reads its own trials from the database, and writes each thing for itself."""
    with patch("ssdtune.study.run.OwnView", _Plain):
        return run()


class _Plain:
    """An ``OwnView`` that is Optuna alone."""

    together = nullcontext

    def __init__(self, study: optuna.Study) -> None:
        self.study = study

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    look = trials

    def ask(self, attributes: Mapping[str, Any], *, settled: bool = False) -> tuple[optuna.Trial, list[FrozenTrial]]:
        trial = self.study.ask()
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        return trial, self.trials()


def overhead_ms(trials: int, seed: int, method: Mapping[str, Any] | None = None) -> float:
    """Milliseconds a trial beside its evaluation, the median of the last tenth of a study on SQLite."""
    from ssdtune.study.create import create_study
    from ssdtune.study.patience import Patience, waited_for
    from ssdtune.study.record import read_record, read_trial
    from ssdtune.study.run import run_study
    from ssdtune.study.storage import load_study, open_storage, quick_commits, quiet_optuna
    from ssdtune.study.tune import prepare
    from ssdtune.studyfile import SearchSection

    quiet_optuna()
    task, ends = small_task(seed), [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"sqlite:///{folder}/studies.db", create=True)
        study = create_study(task, storage, method=method, search=SearchSection(trials=trials, seed=seed))
        study = load_study(study.study_name, waited_for(storage, Patience()))
        with quick_commits(storage):  # as `ssdtune study run` does, and waiting for the storage
            unlearner = prepare(read_record(study), task)
            run_study(study, task, unlearner, on_trial=lambda *_: ends.append(time.perf_counter()))
        spent = [read_trial(trial) for trial in study.trials]
    seconds = [[each[key] for key in each if key.startswith("seconds_") and key != "seconds_search"] for each in spent]
    beside = [after - before - sum(own) for before, after, own in zip(ends, ends[1:], seconds, strict=False)]
    found: float = 1e3 * statistics.median(beside[-trials // 10 :])
    return found


def small_task(seed: int) -> Task:
    """Two clouds of points, of which a network of 58 parameters is to forget one."""
    import torch

    import ssdtune

    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.Tanh(), torch.nn.Linear(12, 2))
    targets = torch.arange(40) % 2
    points = torch.randn(40, 2) + 4 * targets[:, None]
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(points), targets).backward()
        optimiser.step()
    samples = list(zip(points, targets, strict=True))
    return ssdtune.Task(
        model=model,
        loss=torch.nn.functional.cross_entropy,
        retain=samples[::2],
        forget=samples[1::2],
        quality=lambda output, target: output.softmax(-1).gather(-1, target[:, None]).squeeze(-1),
        floor=0.02,
        name="points",
    )


if __name__ == "__main__":
    main(__doc__ or "", measure)
