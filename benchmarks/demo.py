"""`ssdtune demo`, as a user runs it: what it comes to, how long it takes, and the picture of the documentation.

The command runs once, with nothing kept from before; figures are those of its `summary.json` and of its competition of
samplers on SSD. `score.SET` is the best feasible score; `MODEL.SET_ssim` a mean over slices. `--picture FILE` keeps
its picture, whose SHA-256 begins as said.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.comparison import ssdtune
from benchmarks.harness import Metrics, main, table
from ssdtune.cli.demo import COMPETITION, SHOWN

MODELS = {"original": "untouched", "best": "unlearned", "oracle": "oracle"}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--picture", type=Path, metavar="FILE", help="keep the picture of before and after here")


def best_of(study: str, folder: Path) -> dict[str, Any]:
    """The best feasible trial of a study of the demo."""
    found: dict[str, Any] = json.loads(
        ssdtune("study", "best", study, "--storage", "sqlite:///demo/study.db", "--json", folder=folder)
    )
    return found


def measure(chosen: argparse.Namespace, lines: list[str]) -> Metrics:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        ssdtune("demo", "--device", chosen.device, folder=folder)
        seconds = time.perf_counter() - started
        summary = json.loads((folder / "demo" / "summary.json").read_text())
        ssd = max(best_of(study, folder)["score"] for study in COMPETITION.values())
        picture = folder / "demo" / "before_after.png"
        if chosen.picture:
            shutil.copy(picture, chosen.picture)
        made = hashlib.sha256(picture.read_bytes()).hexdigest()[:12]
    best, score, measures = summary["best"], summary["score"], summary["measures"]
    metrics: Metrics = {"minutes": seconds / 60, "score": best["score"], "score.ssd": ssd}
    metrics |= {"score.untouched": score["untouched"], "retained": best["retained"], "remembered": best["remembered"]}
    rows = []
    for key, label in SHOWN.items():
        values = {word: measures[model].get(key) for model, word in MODELS.items()}
        metrics |= {f"{word}.{key}": value for word, value in values.items() if value is not None}
        rows.append([label, *("" if value is None else f"{value:.3f}" for value in values.values())])
    lines += [
        f"{seconds / 60:.1f} minutes. Score {best['score']:.3f} (retained {best['retained']:.3f}, remembered "
        f"{best['remembered']:.3f}; untouched model {score['untouched']:.3f}), SSD {ssd:.3f}. Its picture is {made}.",
        "",
        *table(["SSIM of", *MODELS.values()], rows),
    ]
    return metrics


if __name__ == "__main__":
    text: list[str] = []
    main(__doc__ or "", partial(measure, lines=text), options, text)
