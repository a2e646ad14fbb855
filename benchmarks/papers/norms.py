"""GA-l1 as published, with weaker norms, and tuned: whether the published collapse is the norm's."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Metrics, table
from benchmarks.papers.runs import base
from benchmarks.papers.tables import COLUMNS, Found
from benchmarks.papers.tasks import XUE
from ssdtune.study.record import as_number
from ssdtune.unlearning.ft import LR, STEPS


def norms_table(found: Found, real: bool) -> tuple[list[str], Metrics]:
    """GA-l1 as published with weaker norms, and tuned: what of the collapse is the norm's."""
    metrics: Metrics = {}
    rows = []
    for label in ("ga-l1", "ga-l1-ft@10"):
        results = [
            r for (c, _, name), r in found.published.items() if name == label and c.real == real and c.paper == XUE
        ]
        for place in range(-1, min((len(r["weaker"]) for r in results), default=-1)):
            runs = [r["runs"][-1] if place < 0 else r["weaker"][place] for r in results]
            gamma = runs[0]["setting"]["gamma"]
            asked = runs[0]["setting"]
            values = [
                float(np.mean([as_number(run[f"{name}_psnr"]) for run in runs])) for name in COLUMNS[XUE].values()
            ]
            shown = f"{gamma:g}, lr {asked[LR]:.2g}, {asked[STEPS]} steps"
            rows.append([base(label), shown, *(f"{value:.2f}" for value in values)])
            name = f"{XUE}.{'real' if real else 'simulated'}.published.{base(label)}.gamma_{gamma:g}.bta_psnr"
            metrics[name] = values[0]
        tuned = [s for (c, _, name), s in found.studies.items() if name == label and c.real == real and c.paper == XUE]
        if tuned:
            settings = [study.measures["setting"] for study in tuned if "setting" in study.measures]
            shown = "tuned, nothing beats the untouched model"
            if settings:
                means = {
                    knob: np.exp(np.mean([np.log(setting[knob]) for setting in settings]))
                    for knob in ("gamma", LR, STEPS)
                }
                shown = f"tuned, {means['gamma']:.1e}, lr {means[LR]:.2g}, {means[STEPS]:.1f} steps"
            values = [
                float(np.mean([as_number(s.measures[f"{n}_psnr"]) for s in tuned])) for n in COLUMNS[XUE].values()
            ]
            rows.append([base(label), shown, *(f"{value:.2f}" for value in values)])
    original = found.mean("", XUE, "original", "test_psnr", real)
    words = []
    for method in dict.fromkeys(row[0] for row in rows):
        of = [row for row in rows if row[0] == method and not row[1].startswith("tuned")]
        lost = original - float(of[0][2])
        weakest = original - float(of[-1][2])
        words.append(
            f"{method} loses {lost:.2f} dB of BTA at gamma {_gamma(of[0])}, {weakest:.2f} dB at {_gamma(of[-1])}"
        )
    lines = (
        [*table(["method", "gamma and setting", *COLUMNS[XUE]], rows), "", f"As published {'; '.join(words)}."]
        if rows
        else []
    )
    return lines, metrics


def _gamma(row: list[str]) -> str:
    return row[1].partition(",")[0]
