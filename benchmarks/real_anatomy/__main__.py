"""Real anatomies: unlearning real knees with ghosted targets from a VarNet that reconstructs real brains.

Real magnitude slices become 4-coil k-space. A VarNet learns brains and ghosted knees, its oracle the brains alone, both
as `ssdtune train` does; `--models` pairs are trained, which differ in the seed of their training and in which knees are
known. The data allow this much: brains to keep are slices of one subject, those that score it lie right beyond those
that it learned; knees are of ten subjects, a slice each, five `known`, given to the methods, and five `unknown` that
only evaluate them. Three more subjects, brains that nothing was trained on, are real multi-coil k-space, the middle of
it at the size that the models were trained on:
`kspace.FILE.{untouched,unlearned,oracle,adapted,zero_filled}_{ssim,psnr}`; `adapted` is the oracle after five more
epochs on 156 slices that are like these in coils, contrast, noise and field of view, of other subjects, most of them
drawn.

Studies of studies/real_anatomy.toml with the default method, and with `ssd`, each with its own sampler and with TPE,
have the same number of trials. Qualities are against the poisoned targets, `clean_unknown_ssim` against the clean ones.
`published` is SSD at alpha = 10, lambda = 1; the others are the best feasible trials. Values are means over the models
with their 95 % interval (Student's t). Results are kept one by one in `--work`, and so is a training that was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from benchmarks.harness import ROOT, Metrics, add_resumable, commits_of, main, table
from benchmarks.real_anatomy.models import (
    DATA,
    MEASURES,
    SCORED,
    SEARCHED,
    SET_NAMES,
    keep_model,
    make_data,
    results_of,
)
from ssdtune.learning.processes import run_in_processes
from ssdtune.progress import silent

RECONSTRUCTIONS = ("untouched", "unlearned", "oracle", "adapted", "zero_filled")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, help="pairs trained (default 3)")
    add_resumable(parser, ROOT / "build/real_anatomy")


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    if not (DATA / "images").is_dir():
        raise SystemExit(f"error: no real images, {DATA}, set SSDTUNE_TEST_DATA to the folder that holds images/")
    folder = chosen.work.resolve() / ("quick" if chosen.quick else "full")
    models = range(chosen.seed, chosen.seed + (chosen.models or (1 if chosen.quick else 3)))
    missing = [seed for seed in models if not all(path.exists() for path in results_of(folder, seed))]
    if chosen.dry_run:
        lines.append(f"missing: {len(missing)} of {len(models)} models, about {14 * len(missing)} minutes of one core")
        return {"missing": len(missing)}
    if missing and not chosen.summary:
        make_data(folder, chosen.quick)
        work = partial(keep_model, folder, quick=chosen.quick, device=chosen.device)
        run_in_processes(work, missing, min(chosen.workers, len(missing)), track=silent, description="models")
    found = [read(folder, seed) for seed in models if results_of(folder, seed)[0].exists()]
    if not found:
        raise SystemExit("error: no results yet, --work, run without --summary")
    words = f"{len(found)} trained models at commit {commits_of(chosen.work)}; means [95 % interval]."
    lines += [words, "", *tables(found)]
    return {
        name: value
        for key in found[0]
        for name, value in with_interval(key, [each[key] for each in found if key in each])
    }


def read(folder: Path, seed: int) -> Metrics:
    """All results there are of a trained model."""
    return {
        key: value
        for path in results_of(folder, seed)
        if path.exists()
        for key, value in json.loads(path.read_text()).items()
    }


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Their mean and its 95 % interval after Student, which three values can bear; of one it is the value itself."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    wide = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - wide, mean + wide


def with_interval(key: str, values: Sequence[float]) -> list[tuple[str, float]]:
    mean, low, high = interval(values)
    return [(key, mean)] if low == high else [(key, mean), (f"{key}.lo", low), (f"{key}.hi", high)]


def tables(found: Sequence[Mapping[str, float]]) -> list[str]:
    """What the models have in common, the measures of each model, and the real k-space."""

    def cell(key: str) -> str:
        values = [each[key] for each in found if key in each]
        if not values:
            return ""
        digits = ".2f" if key.endswith("psnr") else ".3f"
        mean, low, high = interval(values)
        return f"{mean:{digits}} [{low:{digits}}, {high:{digits}}]" if low < high else f"{mean:{digits}}"

    first = found[0]
    facts = [f"{first['parameters']:.0f} parameters", f"{first['coils']:.0f} coils"]
    facts += [f"{first['height']:.0f} x {first['width']:.0f} pixels"]
    facts += [f"{first[f'slices.{name}']:.0f} {name} slices" for name in ("trained_retain", *SET_NAMES.values())]
    columns = [*SCORED, *(f"{shown}_{measure}" for shown in SET_NAMES.values() for measure in MEASURES[:2])]
    columns += ["clean_unknown_ssim"]
    models = ["original", "oracle", "published", *SEARCHED]
    rows = [[name, *(cell(f"{name}.{column}") for column in columns)] for name in models]
    scans = dict.fromkeys(key.split(".")[1] for key in first if key.startswith("kspace."))
    pairs = [f"{name}_{measure}" for measure in ("ssim", "psnr") for name in RECONSTRUCTIONS]
    real = [[scan, *(cell(f"kspace.{scan}.{pair}") for pair in pairs)] for scan in scans]
    words = [column.replace("_", " ") for column in columns]
    return [
        ", ".join(facts) + ".",
        "",
        *table(["model", *words], rows),
        "",
        *table(["real k-space", *(pair.replace("_", " ") for pair in pairs)], real),
    ]


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
