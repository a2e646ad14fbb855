"""What a study found and what it was made with, in words: shared by the dashboard's note and the HTML page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from ssdtune.errors import ConfigError
from ssdtune.report.view import StudyView
from ssdtune.report.volumes import retained_interval
from ssdtune.study.record import StudyRecord
from ssdtune.unlearning.method import Knob

_FLOORS = {
    "oracle": "forget quality of the oracle",
    "clean": "SSIM of clean against poisoned targets, times the untouched model's retain quality",
    "zero-filled": "the forget set reconstructed without a model",
    "number": "a number given with the study",
    "none": "no floor known; remembered is measured from 0",
}
LOW_FLOOR = (
    "The floor is the quality of zero-filled images, mostly less than a model that never saw the forget set reaches: "
    "remembered ranks trials, and 0 % of it may mean damage."
)
_SHORT = 12
SETS = {"retain": "retain", "forget": "forget (known)", "unknown": "forget (unknown)", "unseen": "forget (unseen)"}
"""What scored sets are called."""
KEPT, FORGOTTEN = ("retain",), ("forget", "unknown")
"""Sets whose quality is to hold, and to fall; that of ``unseen`` says nothing of what was learned."""


def finding(view: StudyView) -> str:
    """One or two sentences: the best setting and what it does, or that there is none yet."""
    best = view.leading
    if best is None:
        return "No trial has finished yet."
    score, where = best.score, f"{best.setting_in_words()} (trial {best.number})"
    if not score.feasible:
        about = "about " if best.estimated else ""
        return (
            f"No trial yet keeps the {view.record.rule.min_retained:.0%} of retain quality asked for; the nearest, "
            f"{where}, keeps {about}{score.retained:.1%}."
        )
    if best.estimated or score.value <= view.untouched.value:
        return f"No feasible trial beats the untouched model yet (score {view.untouched.value:.3f})."
    oracle = f", the oracle {view.oracle.value:.3f}" if view.oracle is not None else ""
    return (
        f"With {where} the model keeps {score.retained:.1%} of the retain quality and leaves "
        f"{score.remembered:.1%} of what was remembered: score {score.value:.3f}. The untouched model scores "
        f"{view.untouched.value:.3f}{oracle}."
    )


def judgement(view: StudyView) -> list[str]:
    """Whether that is good: against the bound, the oracle, and what became worse; nothing without a trial to judge."""
    if view.best is None:
        return []
    interval, oracle = retained_interval(view), view.oracle
    words = [f"Retained: {interval.in_words()}."] if interval else []
    if oracle is not None and view.best.score.feasible and oracle.value > view.untouched.value:
        share = (view.best.score.value - view.untouched.value) / (oracle.value - view.untouched.value)
        share = math.floor(100 * share + 1e-9) / 100  # all of it is said of nothing less
        words.append(f"That is {share:.0%} of the way from the untouched model's score to the oracle's.")
    better, worse = changes(view)
    words += [f"Better: {'; '.join(better)}."] if better else []
    words.append(f"Worse: {'; '.join(worse)}." if worse else "No measure that should hold became worse.")
    return [*words, *([LOW_FLOOR] if is_low(view.record) else [])]


def is_low(record: StudyRecord) -> bool:
    """Whether the floor lies below what a model that never saw the forget set would reach."""
    return record.floor_source == "zero-filled"


def zero_in_words(record: StudyRecord) -> str:
    """What 0 % remembered means."""
    return "0 % is the floor's" if is_low(record) else "0 % is as if never seen"


def changes(view: StudyView) -> tuple[list[str], list[str]]:
    """(what became better, what became worse) from the untouched model to the best trial, in words.

    Quality of what is to be kept should hold, and so should quality and PSNR against clean targets. Quality of what is
    to be forgotten should fall, and not below that of a model that never saw it. Changes below 5e-4 are neither.
    """
    better: list[str] = []
    worse: list[str] = []
    quality, floor = view.record.quality, view.record.rule.floor
    for name, row in view.measure_table().items():
        part, _, measure = name.partition("_")
        if part not in KEPT + FORGOTTEN or measure not in (quality, f"clean_{quality}", "clean_psnr"):
            continue
        if not abs(change := row.get("change", 0.0)) >= 5e-4:
            continue
        falls, decibel = part in FORGOTTEN and measure == quality, measure.endswith("psnr")
        what = f"{measure.removeprefix('clean_').upper()} of the {SETS[part]} set"
        what += " against clean targets" if measure != quality else ""
        ends = [f"{row[end]:.2f}" if decibel else f"{row[end]:.3f}" for end in ("original", "best")]
        by = f"{change:+.2f} dB" if decibel else f"{change / abs(row['original'] or 1.0):+.1%}"
        text = f"{what} {' to '.join(ends)} ({by})"
        never = row.get("oracle", floor if part == "forget" else -math.inf)
        if falls and row["best"] < never - 5e-4:
            whose = "a model that never saw it" if "oracle" in row or not is_low(view.record) else "zero-filled images"
            worse.append(f"{text}, below the {never:.3f} of {whose}")
        else:
            (better if (change > 0) != falls else worse).append(text)
    return better, worse


def next_commands(view: StudyView) -> list[str]:
    """What to type next: apply the best trial if it is feasible and better than doing nothing, else search on."""
    best = view.best
    if best is not None and best.score.feasible and best.score.value > view.untouched.value:
        return [f"ssdtune study apply {shlex.quote(view.name)} --out unlearned.pt"]
    finished, asked = view.counts.finished, view.record.search.trials
    more = f" --trials {finished + asked}" if finished >= asked else ""
    return [f"ssdtune study run {shlex.quote(view.name)}{more}"]


def fact_rows(view: StudyView) -> list[tuple[str, str]]:
    """(what, value) of everything the study was made with; hashes shortened to 12 digits."""
    record, rule, counts, source = view.record, view.record.rule, view.counts, view.record.floor_source
    weights = f"s = {rule.retain_weight:g} retained + {1 - rule.retain_weight:g} (1 - remembered)"
    if rule.kind == "raw":
        weights = f"raw s = {rule.retain_weight:g} q_retain + {1 - rule.retain_weight:g} (1 - q_forget)"
    return [
        ("task", record.task),
        ("model", _model(view)),
        ("method", method_in_words(record.method, record.knobs)),
        ("searched", ", ".join(map(_range, record.knobs)) or "nothing"),
        ("samples given to the method", _sets(record.counts, record.identity, "fisher.")),
        ("samples scored", _sets(record.counts, record.identity, "")),
        ("score", weights),
        ("feasible", f"retained at least {rule.min_retained:g}" if rule.min_retained > 0 else "always"),
        *([("best trial's retained", interval.in_words())] if (interval := retained_interval(view)) else []),
        ("quality q", record.quality),
        ("untouched model", f"q_retain {rule.q_retain:.4f}, q_forget {rule.q_forget:.4f}"),
        ("floor of q_forget", f"{rule.floor:.4f} ({source}: {_FLOORS.get(source, source)})"),
        *_analysis(record),
        ("sampler", f"{record.search.sampler}, seed {record.search.seed} ({record.sampler})"),
        *([("prior", view.prior.in_words())] if view.prior else []),
        ("trials", f"{counts.finished} finished of {record.search.trials}" + _faults(view)),
        ("made", record.created),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]


def _analysis(record: StudyRecord) -> list[tuple[str, str]]:
    """How the Fisher information was taken, where the method asks for it; nothing of a method that is not installed."""
    try:
        asked = getattr(record.chosen.method, "uses_analysis", False)
    except ConfigError:
        return []
    words = f"{record.fisher.definition}, over {record.fisher.denominator}, phi {record.phi:.3g}"
    return [("Fisher information", words)] if asked else []


def method_in_words(section: Mapping[str, Any], knobs: tuple[Knob, ...]) -> str:
    """The method's name, and what it was given beside the ranges of its knobs."""
    searched = {knob.name for knob in knobs}
    plain = {**section, "parents": [parent["trial"] for parent in section.get("parents", ())]}
    given = [f"{key} {plain[key]}" for key in section if key != "name" and key not in searched]
    return str(section["name"]) + (f" ({', '.join(given)})" if given else "")


def _model(view: StudyView) -> str:
    study_file = view.record.study_file
    path = str(study_file["model"]["checkpoint"]) if study_file else ""
    return f"{path} ({_short(view.record.identity, 'model')})".strip()


def _sets(counts: Mapping[str, int], identity: Mapping[str, str], prefix: str) -> str:
    names = [name for name in counts if name.startswith("fisher.") == bool(prefix)]
    return ", ".join(
        f"{name.removeprefix(prefix)} {counts[name]} ({_short(identity, f'data.{name}')})" for name in names
    )


def _short(identity: Mapping[str, str], key: str) -> str:
    return identity.get(key, "")[:_SHORT]


def _range(knob: Knob) -> str:
    scale = "log scale" if knob.scale == "log" else "linear"
    return f"{knob.name} {knob.low:g} to {knob.high:g} ({scale}{', whole numbers' if knob.integer else ''})"


def _faults(view: StudyView) -> str:
    counts = {"running": view.counts.running, "failed": view.counts.failed, "interrupted": view.counts.interrupted}
    return "".join(f", {count} {name}" for name, count in counts.items() if count)
