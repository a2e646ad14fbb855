"""What makes GA-l1 collapse: its norm, its ascent, or both, on the papers' tasks in small.

GA-l1 as published (rate of the training, a tenth of its steps) taken apart. `norm` : no ascent; the published norm
moves every weight by the rate towards 0 at each step, here steps times rate in all, and in the published code 0.536 in
an epoch (536 steps at 1e-3). `ascent` : no norm, at the rate and at tenths of it. `both` : as published. PSNR on retain
test slices (BTA) and on the forget set (UA), means over trained models; models are those of `benchmarks.papers`, made
where there are none.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch.nn.functional import softshrink

from benchmarks.harness import ROOT, Metrics, main, table
from benchmarks.outcome.runs import say
from benchmarks.papers.runs import Plan
from benchmarks.papers.tasks import CASES, RATE, XUE, Case, make_task
from ssdtune.objective.evaluator import Evaluator
from ssdtune.progress import silent
from ssdtune.task import Task
from ssdtune.unlearning.method import Params, run
from ssdtune.unlearning.methods import choose_method

EPOCH = 0.536  # published: 536 knee slices at Adam's 1e-3, one a step


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="trained models of a task (default 3)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/papers", metavar="DIR", help="of the models")


def parts(task: Task, case: Case, model: int) -> dict[str, Params]:
    """Parameters by what was done."""
    steps = case.unlearning_steps
    chosen = choose_method({"name": "ga-l1", "decay": False})
    unlearner = chosen.method.prepare(task, chosen.options, analyse=_no_analysis, track=silent)
    unit = math.sqrt(sum(value.numel() for value in task.params.values()))

    def trained(rate: float, gamma: float) -> Params:
        return run(unlearner, {"lr": rate * unit, "steps": steps, "gamma": gamma}, model).params

    def shrunk(by: float) -> Params:
        return {name: softshrink(value, by) for name, value in task.params.items()}

    return {
        "untouched": task.params,
        f"norm, {steps * RATE:.2f} off each weight": shrunk(steps * RATE),
        f"norm, {EPOCH} off each weight": shrunk(EPOCH),
        "ascent": trained(RATE, 0.0),
        "ascent, a tenth of the rate": trained(RATE / 10, 0.0),
        "ascent, a hundredth of the rate": trained(RATE / 100, 0.0),
        "both": trained(RATE, 1.0),
    }


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    torch.set_num_threads(1)
    metrics: Metrics = {}
    cases = [case for case in CASES if case.paper == XUE and not (chosen.quick and case.real)]
    for case in cases:
        if case.needs is not None and not case.needs.exists():
            say(f"left out {case.key}: no {case.needs}")
            continue
        found: dict[str, list[tuple[float, float]]] = {}
        for model in range(1 if chosen.quick else chosen.models or 3):
            folder = Plan((), (), 20, chosen.seed, chosen.work).folder(case, model)
            folder.mkdir(parents=True, exist_ok=True)
            task = make_task(case, model, folder / "models.pt")
            evaluator = Evaluator(task)
            for name, params in parts(task, case, model).items():
                means = evaluator.measures(params).summary()
                found.setdefault(name, []).append((means["test_psnr"], means["forget_psnr"]))
            say(f"{folder.name}: done")
        rows = []
        for name, values in found.items():
            bta, ua = (float(value) for value in np.mean(values, axis=0))
            key = name.replace(",", "").replace(" ", "_")
            metrics |= {f"{case.key}.{key}.bta_psnr": bta, f"{case.key}.{key}.ua_psnr": ua}
            rows.append([name, f"{bta:.2f}", f"{ua:.2f}"])
        many = len(found["both"])
        title = f"{case.key}, {many} trained model{'s' if many > 1 else ''}, {case.unlearning_steps} steps at {RATE:g}:"
        lines += ["", title, "", *table(["what was done", "BTA", "UA"], rows)]
    return metrics


def _no_analysis() -> NoReturn:
    raise NotImplementedError


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
