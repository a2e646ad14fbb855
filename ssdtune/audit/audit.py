"""Everything the field measures of one unlearned model, beside the untouched model and the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ssdtune.audit.losses import TOLERANCE, Params, Reference, Slicewise, relearn_steps, slicewise
from ssdtune.audit.measures import oracle_gap, relearn_ratio, spread_over_volumes, tug_of_war, weight_distance
from ssdtune.audit.membership import (
    Attack,
    attack,
    calibrated_score,
    likelihood_ratio,
    loss_score,
    paired_attack,
)
from ssdtune.audit.sets import BTA, KTA, RA, UA, UNKNOWN, UNSEEN, Served, sets_of, subject_names, volume_names
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.order import stratified_order
from ssdtune.objective.outcome import Columns
from ssdtune.progress import Track, silent
from ssdtune.task import Chosen, Task
from ssdtune.unlearning.method import Stage

VERSION = 1
UNTOUCHED, UNLEARNED, ORACLE = "untouched", "unlearned", "oracle"
MODELS = UNTOUCHED, UNLEARNED, ORACLE
MOST, RELEARNED = 256, 64  # retain slices that were trained on, and forget slices that are learned again
CLEAN, PSNR, LOSS_ATTACK, MIA = "clean_", "psnr", "MIA, loss attack", "MIA"


@dataclass(frozen=True)
class Row:
    """One measure by model. ``spread`` : standard deviation over volumes. ``interval`` : 95 %, over subjects."""

    name: str
    values: Mapping[str, float | None]
    spread: Mapping[str, float | None] = field(default_factory=dict)
    interval: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """What was measured, on which sets in words, and in a line each what could not be."""

    rows: Sequence[Row]
    sets: Mapping[str, str]
    missing: Sequence[str]
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Audit:
        return cls(**{**stored, "rows": [Row(**row) for row in stored["rows"]]})


@dataclass(frozen=True)
class Peers:
    """Parameters of models like this one, for LiRA: trained with the forget set from other seeds and unlearned by the
    same method, and trained without it."""

    unlearned: Sequence[Params] = ()
    oracles: Sequence[Params] = ()


def audit(
    task: Task,
    stage: Stage,
    seconds: float,
    *,
    once: tuple[float, float] = (0.0, 0.0),
    reference: Reference | None = None,
    peers: Peers | None = None,
    most: int = MOST,
    track: Track = silent,
) -> Audit:
    """Measure an unlearned model.

    stage : its parameters and what they cost in slice passes; ``seconds`` the same as wall time; ``once`` both (passes,
    seconds) of what the method did before, such as the Fisher analysis: an unlearning takes that too. reference : how
    hard a slice is without any model, e.g. ``mri.floors.zero_filled``. most : retain slices that were trained on.
    What needs an oracle, unseen slices or clean targets is left out, and said, where the task has none.
    """
    subject = _Subject(task, stage, reference, peers or Peers(), most, track)
    members = list(_membership(subject))
    rows = [
        *_qualities(subject),
        *_corrective(subject),
        *_distances(subject, members),
        *_relearning(subject),
        *members,
        Row("RTE seconds", {UNLEARNED: once[1] + seconds}),
        Row("RTE slice passes", {UNLEARNED: once[0] + stage.cost}),
        Row("RTE slice passes, without what trials share", {UNLEARNED: stage.cost}),
    ]
    return Audit(rows, {name: served.words for name, served in subject.sets.items()}, list(_missing(subject)))


@dataclass(frozen=True, eq=False)
class _Subject:
    """The three models, measured on all sets."""

    task: Task
    stage: Stage
    reference: Reference | None
    peers: Peers
    most: int
    track: Track

    @cached_property
    def sets(self) -> dict[str, Served]:
        return sets_of(self.task, self.most)

    @cached_property
    def models(self) -> dict[str, Params]:
        oracle = self.task.oracle
        found = {UNTOUCHED: self.task.params, UNLEARNED: self.stage.params}
        return found if oracle is None else {**found, ORACLE: self.task.state(oracle)}

    @cached_property
    def columns(self) -> dict[str, Columns]:
        """Measures of every slice, by model, set and measure."""
        scored = {"retain" if name == BTA else name: served.samples for name, served in self.sets.items() if name != UA}
        evaluator = Evaluator(replace(self.task, evaluation=scored))
        found: dict[str, Columns] = {}
        for model, params in self.track(list(self.models.items()), "models", len(self.models)):
            values = dict(evaluator.measures(params).values)
            found[model] = {UA: values.pop("forget"), BTA: values.pop("retain"), **values}
        return found

    def quality(self, model: str, name: str) -> float:
        """Mean q of a set."""
        return float(next(iter(self.columns[model][name].values())).mean())

    def row(self, label: str, name: str, measure: str) -> Row:
        """A measure of one set by model."""
        columns = {model: sets[name][measure] for model, sets in self.columns.items()}
        volumes = volume_names(self.sets[name].samples)
        spread = {model: spread_over_volumes(column, volumes) for model, column in columns.items()}
        return Row(label, {model: float(column.mean()) for model, column in columns.items()}, spread)

    @property
    def unknown(self) -> str | None:
        """Where the unknown forget slices are."""
        if UNKNOWN not in self.task.evaluation:
            return None
        return UNKNOWN if UNKNOWN in self.sets else KTA


def _qualities(subject: _Subject) -> Iterator[Row]:
    for name, measures in subject.columns[UNTOUCHED].items():
        quality, *others = measures
        for measure in [quality, *(other for other in others if other == PSNR)]:
            yield subject.row(f"{name} {measure}", name, measure)


def _corrective(subject: _Subject) -> Iterator[Row]:
    """Quality of unknown corrupted slices against their clean targets, and what retain slices lose (Goel et al.,
    "Corrective machine unlearning", 2024)."""
    name = subject.unknown
    measure = CLEAN + next(iter(subject.columns[UNTOUCHED][UA]))
    if name is not None and measure in subject.columns[UNTOUCHED][name]:
        yield subject.row("corrective: unknown, against clean targets", name, measure)
        before = subject.quality(UNTOUCHED, BTA)
        lost = {model: before - subject.quality(model, BTA) for model in subject.models if model != UNTOUCHED}
        yield Row("corrective: lost on retain", lost)


def _distances(subject: _Subject, members: Sequence[Row]) -> Iterator[Row]:
    def moved(model: str, other: str) -> float:
        return weight_distance(subject.models[model], subject.models[other], subject.task.params)

    yield Row("weights moved", {model: moved(model, UNTOUCHED) for model in subject.models if model != UNTOUCHED})
    if ORACLE not in subject.models:
        return
    yield Row("weights from the oracle", {model: moved(model, ORACLE) for model in (UNTOUCHED, UNLEARNED)})
    names = [name for name in (UA, RA, BTA) if name in subject.sets]
    known = {model: {name: subject.quality(model, name) for name in names} for model in subject.models}
    yield _tug_of_war("ToW", known)
    for row in members:
        if row.name == LOSS_ATTACK:
            known = {model: {**values, MIA: row.values[model] or 0.0} for model, values in known.items()}
            yield _tug_of_war("ToW-MIA", {m: {n: v for n, v in found.items() if n != UA} for m, found in known.items()})
    label = f"oracle gap, mean of {', '.join(known[ORACLE])}"
    yield Row(label, {model: oracle_gap(known[model], known[ORACLE]) for model in (UNTOUCHED, UNLEARNED)})


def _tug_of_war(label: str, known: Mapping[str, Mapping[str, float]]) -> Row:
    values = {model: tug_of_war(known[model], known[ORACLE]) for model in (UNTOUCHED, UNLEARNED)}
    return Row(f"{label} ({', '.join(known[ORACLE])})", values)


def _relearning(subject: _Subject) -> Iterator[Row]:
    task = subject.task
    order = sorted(stratified_order(task.forget, "audit")[:RELEARNED].tolist())
    forget = task.forget if len(order) == len(task.forget) else Chosen(task.forget, order)
    goal = (1 + TOLERANCE) * float(slicewise(task, forget, None).losses.mean())
    found = {model: relearn_steps(task, forget, p, goal) for model, p in subject.models.items() if model != UNTOUCHED}
    most = max(allowed for _, allowed in found.values())
    yield Row(f"relearn time, steps (of {most})", {model: steps for model, (steps, _) in found.items()})
    if ORACLE in found:
        yield Row("AIN", {UNLEARNED: relearn_ratio(found[UNLEARNED][0], found[ORACLE][0])})


def _membership(subject: _Subject) -> Iterator[Row]:
    task = subject.task
    if UNSEEN in task.evaluation:
        inside, outside = task.forget, task.evaluation[UNSEEN]
        subjects = subject_names(inside), subject_names(outside)

        def both(params: Params | None, reference: Reference | None = None) -> tuple[Slicewise, Slicewise]:
            return slicewise(task, inside, params, reference), slicewise(task, outside, params, reference)

        known = {model: both(params) for model, params in subject.models.items()}
        plain = {
            model: attack((loss_score(own.losses), loss_score(other.losses)), subjects)
            for model, (own, other) in known.items()
        }
        yield from _attack_rows(LOSS_ATTACK, plain)
        references = {ORACLE: known[ORACLE]} if ORACLE in known else {}
        if subject.reference is not None:
            references["zero-filled"] = both(None, subject.reference)
        for name, hard in references.items():
            attacks = {}
            for model, pair in known.items():
                if model != name:
                    own, other = (calibrated_score(a.errors, b.errors) for a, b in zip(pair, hard, strict=True))
                    attacks[model] = attack((own, other), subjects)
            yield from _attack_rows(f"MIA calibrated by {name}", attacks)
    unlearned, oracles = subject.peers.unlearned, subject.peers.oracles
    if min(len(unlearned), len(oracles)) >= 2 and ORACLE in subject.models:
        seen, never = (
            np.array([slicewise(task, task.forget, p).errors for p in peers]) for peers in (unlearned, oracles)
        )
        scores = {
            model: likelihood_ratio(slicewise(task, task.forget, subject.models[model]).errors, seen, never)
            for model in (UNLEARNED, ORACLE)
        }
        found = paired_attack(scores[UNLEARNED], scores[ORACLE], subject_names(task.forget))
        yield from _attack_rows(f"LiRA-lite ({len(unlearned)} + {len(oracles)} models)", {UNLEARNED: found})


def _attack_rows(label: str, attacks: Mapping[str, Attack]) -> Iterator[Row]:
    interval = {m: found.interval for m, found in attacks.items() if found.interval is not None}
    yield Row(label, {model: found.auc for model, found in attacks.items()}, interval=interval)
    if any(found.tpr is not None for found in attacks.values()):
        yield Row(f"{label}: TPR at 1 % FPR", {model: found.tpr for model, found in attacks.items()})


def _missing(subject: _Subject) -> Iterator[str]:
    evaluation = subject.task.evaluation
    if ORACLE not in subject.models:
        yield "ToW, oracle gap, AIN, what is the oracle's: there is no oracle (model.oracle)"
    if UNSEEN not in evaluation:
        yield "membership inference: there are no forget slices that no model has seen (data.unseen)"
        if UNKNOWN not in evaluation:
            yield "KTA: there are neither unseen nor unknown forget slices (data.unseen, data.unknown)"
    elif min(len(set(subject_names(s))) for s in (subject.task.forget, evaluation[UNSEEN])) < 2:
        yield "intervals of membership inference: one subject of forget or of unseen slices gives none"
    if not any(row.name.startswith("corrective") for row in _corrective(subject)):
        yield "corrective pair: there are no unknown forget slices with clean targets (data.unknown, data.clean)"
    if min(len(subject.peers.unlearned), len(subject.peers.oracles)) < 2 or ORACLE not in subject.models:
        yield "LiRA-lite: it takes an oracle, and two more models or more that were unlearned, and as many oracles"
