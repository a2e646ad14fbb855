"""``ssdtune.analyse``: from a task to its Fisher analysis, each gradient computed once."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import ssdtune
from ssdtune.arrays import Array
from ssdtune.device import PRECISION
from ssdtune.errors import ConfigError, ModelError
from ssdtune.fisher import depth
from ssdtune.fisher.bootstrap import intervals, too_few
from ssdtune.fisher.crew import SETS, Alone, Crew, Notes, OpenCrew, Work
from ssdtune.fisher.features import FEATURE_VERSION, FeatureInputs, features
from ssdtune.fisher.gather import SetMoments
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.result import Denominator, FisherAnalysis, SetAnalysis
from ssdtune.fisher.spectrum import spectrum_of_gram
from ssdtune.fisher.statistics import SetStatistics
from ssdtune.fisher.units import Definition
from ssdtune.progress import Track, silent
from ssdtune.subset import part_of
from ssdtune.task import Samples, Task, fingerprint, model_hash, sample_ids

MAX_GRAM_SAMPLES = 512
"""Units of a set whose gradients are kept, by default."""

Grouping = Literal["layer", "block"]


class FisherWarning(UserWarning):
    """The analysis stands, but on few samples, or it took more memory than it was given."""


def analyse(
    task: Task,
    *,
    definition: Definition = "per-sample",
    batch_size: int = 1,
    denominator: Denominator = "retain",
    memory_budget: float = 4 * 2**30,
    max_gram_samples: int = MAX_GRAM_SAMPLES,
    groups: Grouping | None = None,
    samples: int | None = None,
    crew: OpenCrew = Alone,
    track: Track = silent,
) -> FisherAnalysis:
    """Compute all that the Fisher information says of a task: diagonals, spectra, features, damage tables.

    Parameters
    ----------
    definition : ``"per-sample"`` squares each sample's gradient; ``"batch"`` squares the gradient of the mean loss of
        each mini-batch of ``batch_size`` samples in the set's order, as the published SSD code does.
    denominator : o is the Fisher diagonal of the ``"retain"`` set, or of the ``"full"`` training set as in Foster et
        al. (AAAI 2024): phi F_forget + (1 - phi) F_retain with the task's forget share phi.
    memory_budget : bytes for everything but the model. Gradients that do not fit are spilled to a temporary file.
    max_gram_samples : units of each set, evenly spaced, whose gradients enter Gram matrix, spectrum and the full form
        of the damage; losses, diagonals and mean gradients are of all units.
    groups : also the spectrum of every ``"layer"``, or every ``"block"`` (sensitivity net and cascades, or thirds of
        the depth).
    samples : the most of each set that is used, spread over its volumes and their slices, the same in every run; None
        for all. phi stays that of the whole sets.
    crew : who computes it, such as a cluster (``study.fisher_on_ray``); the same but for rounding.
    track : shows progress.

    Raises
    ------
    ConfigError : an argument out of range, or a memory budget that cannot be kept.
    DataError : a gradient is not finite (names the sample), or gradients fit neither in memory nor on the disk.
    ModelError : the model has no parameters, its loss is not one number a batch, or all gradients of a set are zero.

    Warns
    -----
    FisherWarning : the bootstrap says that there are too few samples to settle a spectrum; a single gradient takes
        more memory than the budget leaves; or no gradient of the forget set reaches some layers.
    """
    choices = {
        "definition": (definition, get_args(Definition)),
        "denominator": (denominator, get_args(Denominator)),
        "groups": (groups or "layer", get_args(Grouping)),
    }
    counts = {"batch_size": batch_size, "max_gram_samples": max_gram_samples}
    _check(task, choices, counts if samples is None else counts | {"samples": samples})
    work = work_of(task, definition, batch_size, samples, memory_budget, max_gram_samples)
    return conclude(subject_of(work, definition), crew(work), denominator, groups, track)


def work_of(
    task: Task,
    definition: Definition,
    batch_size: int,
    samples: int | None,
    memory_budget: float,
    max_gram_samples: int = MAX_GRAM_SAMPLES,
) -> Work:
    """What ``analyse`` gives to a crew; ``memory_budget`` in bytes, ``batch_size`` samples of a mini-batch."""
    if samples is not None:
        kept_forget, kept_retain = (part_of(whole, samples, name) for name, whole in _sets(task).items())
        task = replace(task, forget=kept_forget, retain=kept_retain, forget_share=task.phi)
    return Work(task, batch_size if definition == "batch" else 1, max_gram_samples, memory_budget)


@dataclass(frozen=True, eq=False)
class Subject:
    """What an analysis is of; see ``FisherAnalysis``. ids : sample names by set."""

    identity: Mapping[str, str]
    ids: Mapping[str, Sequence[str]]
    definition: Definition
    batch_size: int
    phi: float
    known_share: float
    layout: Layout
    theta: NDArray[np.floating]
    device: str = "cpu"


def subject_of(work: Work, definition: Definition) -> Subject:
    """Of a task's sets."""
    return Subject(
        fisher_identity(work.task),
        {name: sample_ids(samples) for name, samples in work.samples.items()},
        definition,
        work.size,
        work.task.phi,
        work.task.known_share,
        work.layout,
        work.layout.flatten(work.task.params),
        str(work.task.device),
    )


def conclude(
    subject: Subject, members: Crew, denominator: Denominator, groups: Grouping | None, track: Track
) -> FisherAnalysis:
    """Everything that follows from what a crew computes; see ``analyse``."""
    started = time.perf_counter()
    layout, theta, phi = subject.layout, subject.theta, subject.phi
    found = members.gather(track)
    gathered = time.perf_counter()
    forget, retain = found["forget"], found["retain"]
    o = retain.diagonal
    if denominator == "full":
        o = np.float32(phi) * forget.diagonal + np.float32(1 - phi) * retain.diagonal
    ratios = SortedRatios.of(forget.diagonal, o)
    tables = members.tables(ratios, theta, _stretches(layout, groups), track)
    gram, spectra_of_groups = _grams(members.grams(), found, groups is not None)
    grams = {"forget": gram[: forget.n, : forget.n], "retain": gram[forget.n :, forget.n :]}
    cross = gram[: forget.n, forget.n :]
    analysed: dict[str, Any] = {
        name: SetAnalysis(
            ids=subject.ids[name],
            **{item.name: getattr(part, item.name) for item in fields(SetMoments)},
            gram=grams[name],
            spectrum=spectrum_of_gram(grams[name]),
            groups=spectra_of_groups[name],
            table=tables[name],
        )
        for name, part in found.items()
    }
    inputs = FeatureInputs(
        forget=SetStatistics(grams["forget"], forget.losses, forget.embeddings),
        retain=SetStatistics(grams["retain"], retain.losses, retain.embeddings),
        cross=cross,
        ratios=ratios,
        depth_profile=depth.profile(layout, forget.diagonal),
        phi=phi,
        known_share=subject.known_share,
        denominator=denominator,
    )
    values, ranges = features(inputs), intervals(inputs)
    complaints = [*members.notes.warnings, *_unreached(layout, forget), *too_few(inputs, values, ranges)]
    for complaint in complaints:
        warnings.warn(complaint, FisherWarning, stacklevel=3)
    analysed |= {item.name: getattr(subject, item.name) for item in fields(subject) if item.name != "ids"}
    analysis = FisherAnalysis(
        **analysed,
        denominator=denominator,
        cross=cross,
        denominator_diagonal=o,
        values=values,
        intervals=ranges,
        warnings=complaints,
        record=_record(subject, members.notes, gathered - started, time.perf_counter() - started),
    )
    analysis.__dict__["ratios"] = ratios  # sorted already
    return analysis


def fisher_identity(task: Task) -> dict[str, str]:
    """Content hashes of what an analysis depends on; the part of ``task.identity`` that it needs."""
    hashes = {f"data.fisher.{name}": fingerprint(samples) for name, samples in _sets(task).items()}
    return {"model": model_hash(task.model), "loss": task.loss_name, **hashes}


def _sets(task: Task) -> dict[str, Samples]:
    return {name: getattr(task, name) for name in SETS}


def _check(task: Task, choices: Mapping[str, tuple[str, tuple[str, ...]]], counts: Mapping[str, int]) -> None:
    """``choices`` : each argument and what it may be. ``counts`` : numbers that are at least 1."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise ConfigError(f"{name} must be {' or '.join(known)}, got {value!r}", "analyse")
    for name, number in counts.items():
        if number < 1:
            raise ConfigError(f"{name} must be at least 1, got {number}", "analyse")
    if not task.params:
        raise ModelError("the model has no parameters", task.name, "give a trained model")


def _unreached(layout: Layout, forget: SetMoments) -> list[str]:
    """One sentence if the forget set's gradients are zero in whole layers; no setting changes those."""
    layers = layout.groups(layout.layers)
    idle = [name for name, places in layers.items() if not any(forget.diagonal[place].any() for place in places)]
    if not idle:
        return []
    return [f"forget gradients vanish in {len(idle)} of {len(layers)} layers ({idle[0]}, ...): they stay as they are"]


def _stretches(layout: Layout, groups: Grouping | None) -> dict[str, list[slice]]:
    """The parameters of each group; all of them under no name where none are asked for."""
    if groups is None:
        return {"": [slice(0, layout.parameters)]}
    return layout.groups(layout.layers if groups == "layer" else depth.stages(layout.names))


def _grams(
    grams: Iterable[tuple[str, Array]], found: Mapping[str, SetMoments], grouped: bool
) -> tuple[Array, dict[str, dict[str, Array]]]:
    """(Gram matrix of all kept rows, eigenvalues of each set and group)."""
    whole = np.zeros((sum(part.n for part in found.values()),) * 2)
    eigenvalues: dict[str, dict[str, Array]] = {name: {} for name in found}
    for label, gram in grams:
        whole += gram
        first = 0
        for name, part in found.items():
            own = slice(first, first := first + part.n)
            if grouped:
                eigenvalues[name][label] = spectrum_of_gram(gram[own, own]).eigenvalues
    return whole, eigenvalues


def _record(subject: Subject, notes: Notes, gradients: float, total: float) -> dict[str, Any]:
    return {
        "versions": {"ssdtune": ssdtune.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "feature_version": FEATURE_VERSION,
        "machine": platform.machine(),
        "device": subject.device,
        "precision": PRECISION,
        "vectorising_failed": notes.failure,
        "embeddings": notes.embeddings,
        "rows": dict(notes.rows),
        "seconds": {"gradients": gradients, "total": total},
    }
