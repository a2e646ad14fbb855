"""What a study found and what it was made with, in words: shared by the dashboard's note and the HTML page."""

from __future__ import annotations

from collections.abc import Mapping

from ssdtune.report.view import StudyView

_FLOORS = {
    "oracle": "forget quality of the oracle",
    "clean": "SSIM of clean against poisoned targets, times the untouched model's retain quality",
    "zero-filled": "zero-filled reconstruction of the forget set",
    "number": "a number given with the study",
    "none": "no floor known; remembered is measured from 0",
}
_SHORT = 12


def finding(view: StudyView) -> str:
    """One or two sentences: the best setting and what it does, or that there is none yet."""
    best = view.leading
    if best is None:
        return "No trial has finished yet."
    score, where = best.score, f"alpha {best.setting.alpha:.4g}, lambda {best.setting.lam:.4g} (trial {best.number})"
    if not score.feasible:
        about = "about " if best.estimated else ""
        return (
            f"No trial yet keeps the {view.facts.rule.min_retained:.0%} of retain quality asked for; the nearest, "
            f"{where}, keeps {about}{score.retained:.1%}."
        )
    if best.estimated or score.value <= view.untouched.value:
        return f"No feasible trial beats the untouched model yet (score {view.untouched.value:.3f})."
    oracle = f", the oracle {view.oracle.value:.3f}" if view.oracle is not None else ""
    return (
        f"{where[0].upper()}{where[1:]} keeps {score.retained:.1%} of the retain quality and leaves "
        f"{score.remembered:.1%} of what was remembered: score {score.value:.3f}. The untouched model scores "
        f"{view.untouched.value:.3f}{oracle}."
    )


def next_commands(view: StudyView) -> list[str]:
    """What to type next: apply the best trial if it is feasible and better than doing nothing, else search on."""
    best = view.best
    if best is not None and best.score.feasible and best.score.value > view.untouched.value:
        return [f"ssdtune study apply {view.name} --out unlearned.pt"]
    finished, asked = view.counts.finished, view.facts.search.trials
    more = f" --trials {finished + asked}" if finished >= asked else ""
    return [f"ssdtune study run {view.name}{more}"]


def floor_in_words(source: str) -> str:
    """Where the floor comes from."""
    return _FLOORS.get(source, source)


def fact_rows(view: StudyView) -> list[tuple[str, str]]:
    """(what, value) of everything the study was made with; hashes shortened to 12 digits."""
    facts, rule, counts = view.facts, view.facts.rule, view.counts
    weights = f"s = {rule.retain_weight:g} retained + {1 - rule.retain_weight:g} (1 - remembered)"
    if rule.kind == "raw":
        weights = f"raw s = {rule.retain_weight:g} q_retain + {1 - rule.retain_weight:g} (1 - q_forget)"
    return [
        ("task", facts.task),
        ("model", _model(view)),
        ("samples given to SSD", _sets(facts.counts, facts.identity, "fisher.")),
        ("samples scored", _sets(facts.counts, facts.identity, "")),
        ("score", weights),
        ("feasible", f"retained at least {rule.min_retained:g}" if rule.min_retained > 0 else "always"),
        ("quality q", facts.quality),
        ("untouched model", f"q_retain {rule.q_retain:.4f}, q_forget {rule.q_forget:.4f}"),
        ("floor of q_forget", f"{rule.floor:.4f} ({facts.floor_source}: {floor_in_words(facts.floor_source)})"),
        ("Fisher information", f"{facts.fisher.definition}, over {facts.fisher.denominator}, phi {facts.phi:.3g}"),
        ("sampler", f"{facts.search.sampler}, seed {facts.search.seed} ({facts.sampler})"),
        *([("prior", view.prior.in_words())] if view.prior else []),
        ("box", f"alpha {_range(facts.search.alpha)}, lambda {_range(facts.search.lam)}, log scale"),
        ("trials", f"{counts.finished} finished of {facts.search.trials}" + _faults(view)),
        ("made", facts.created),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
    ]


def _model(view: StudyView) -> str:
    study_file = view.facts.study_file
    path = str(study_file["model"]["checkpoint"]) if study_file else ""
    return f"{path} ({_short(view.facts.identity, 'model')})".strip()


def _sets(counts: Mapping[str, int], identity: Mapping[str, str], prefix: str) -> str:
    names = [name for name in counts if name.startswith("fisher.") == bool(prefix)]
    return ", ".join(
        f"{name.removeprefix(prefix)} {counts[name]} ({_short(identity, f'data.{name}')})" for name in names
    )


def _short(identity: Mapping[str, str], key: str) -> str:
    return identity.get(key, "")[:_SHORT]


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g}"


def _faults(view: StudyView) -> str:
    counts = {"running": view.counts.running, "failed": view.counts.failed, "interrupted": view.counts.interrupted}
    return "".join(f", {count} {name}" for name, count in counts.items() if count)
