"""A study on a small trained VarNet: the plain way, as it ships, and in bfloat16."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.trial_cost.study import chosen, whole_study
from benchmarks.trial_cost.tasks import MAIN, QUICK, SSD, Case, make_case
from ssdtune.study.create import create_study
from ssdtune.study.storage import quiet_optuna
from ssdtune.studyfile import SearchSection

if TYPE_CHECKING:
    from benchmarks.gpu.parts import Figures, Step

SMALL = replace(MAIN, epochs=4, train=40, retain=100, forget=50)
TINY = replace(QUICK, epochs=3, train=15, retain=15, forget=15)
TRIALS = 12


def steps(options: argparse.Namespace) -> Iterator[Step]:
    quiet_optuna()
    settings = argparse.Namespace(sampler="tpe", seed=options.seed, quick=True)  # goes on to 20 trials, not to 100
    on_gpu = options.device.startswith("cuda")
    trials = TRIALS if on_gpu else 3
    with tempfile.TemporaryDirectory() as folder:
        sizes = TINY if not on_gpu else QUICK if options.quick else SMALL
        case = make_case(Path(folder), sizes, options.seed, device=options.device)
        yield "float32", lambda: whole_study(case, Path(folder), settings, trials)[0].items()
        yield "bfloat16", lambda: _in_bfloat16(case, options.seed, trials)


def _in_bfloat16(case: Case, seed: int, trials: int) -> Figures:
    search = SearchSection.model_validate({"sampler": "tpe", "trials": trials, "seed": seed})
    study = create_study(case.task, name=case.task.name, method=SSD, search=search)
    said: list[str] = []
    started = time.perf_counter()
    case.run(study, precision="bfloat16", say=said.append)
    yield "bfloat16_s", time.perf_counter() - started
    yield "bfloat16_taken", float(any("computing in bfloat16" in words for words in said))
    yield "bfloat16_score", chosen(case, study)
