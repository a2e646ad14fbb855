"""``ssdtune.analyse``: from a task to its Fisher analysis, each gradient computed once."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import ssdtune
from ssdtune.errors import ConfigError, ModelError
from ssdtune.fisher import depth
from ssdtune.fisher.bootstrap import intervals, too_few
from ssdtune.fisher.features import FEATURE_VERSION, FeatureInputs, features
from ssdtune.fisher.gather import GradientSet, evenly_spaced, gather
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.gram import gram_by_group
from ssdtune.fisher.lanczos import lanczos_spectrum
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.memory import plan_memory
from ssdtune.fisher.pace import Method
from ssdtune.fisher.ratios import SortedRatios
from ssdtune.fisher.result import Denominator, FisherAnalysis, Floats, SetAnalysis
from ssdtune.fisher.rows import RecomputedRows, tracked
from ssdtune.fisher.spectrum import Spectrum, parameter_vectors, spectrum_of_gram
from ssdtune.fisher.statistics import SetStatistics
from ssdtune.fisher.tables import RowTables
from ssdtune.fisher.units import Definition, Units
from ssdtune.progress import Track, silent
from ssdtune.task import Task, fingerprint, model_hash, sample_ids

MAX_GRAM_SAMPLES = 512
"""Units of a set whose gradients are kept, by default."""

Grouping = Literal["layer", "block"] | Callable[[str], str]


class FisherWarning(UserWarning):
    """The analysis stands, but on few samples, or it took more memory than it was given."""


def analyse(
    task: Task,
    *,
    definition: Definition = "per-sample",
    batch_size: int = 1,
    denominator: Denominator = "retain",
    memory_budget: float = 4 * 2**30,
    method: Method = "auto",
    max_gram_samples: int = MAX_GRAM_SAMPLES,
    spectrum: Literal["gram", "lanczos"] = "gram",
    eigenpairs: int = 20,
    groups: Grouping | None = None,
    eigenvectors: int = 0,
    exponents: Sequence[float] = (1.0,),
    track: Track = silent,
) -> FisherAnalysis:
    """Compute all that the Fisher information says of a task: diagonals, spectra, features, damage tables.

    Parameters
    ----------
    definition : ``"per-sample"`` squares each sample's gradient; ``"batch"`` squares the gradient of the mean loss of
        each mini-batch of ``batch_size`` samples in the set's order, as the published SSD code does.
    denominator : o is the Fisher diagonal of the ``"retain"`` set, or of the ``"full"`` training set as in Foster et
        al. (AAAI 2024): phi F_forget + (1 - phi) F_retain with the task's forget share phi.
    memory_budget : bytes for everything but the model. Gradients that do not fit are spilled to a temporary file, or
        computed again where that is measured to be quicker.
    method : how gradients are computed; ``"auto"`` measures which way is faster.
    max_gram_samples : units of each set, evenly spaced, whose gradients enter Gram matrix, exact spectrum and the full
        form of the damage; losses, diagonals and mean gradients are of all units.
    spectrum : ``"lanczos"`` finds the leading ``eigenpairs`` over all units instead, one pass over the data a step.
    groups : also the spectrum of every ``"layer"``, every ``"block"`` (sensitivity net and cascades, or thirds of the
        depth), or of the groups that a function of the parameter's name makes.
    eigenvectors : how many leading ones to keep in parameter space, 4 P bytes each and set.
    exponents : of the dampening, for which ``damage`` shall answer.
    track : shows progress.

    Raises
    ------
    ConfigError : an argument out of range, or a memory budget that cannot be kept.
    DataError : a gradient is not finite; names the sample.
    ModelError : the model has no parameters, or its loss is not one number a batch.

    Warns
    -----
    FisherWarning : the bootstrap says that there are too few samples to settle a spectrum; or a single gradient takes
        more memory than the budget leaves.
    """
    started = time.perf_counter()
    least = {"batch_size": (batch_size, 1), "max_gram_samples": (max_gram_samples, 1)}
    least |= {"eigenpairs": (eigenpairs, 1), "eigenvectors": (eigenvectors, 0)}
    choices: dict[str, tuple[str, tuple[str, ...]]] = {
        "definition": (definition, get_args(Definition)),
        "denominator": (denominator, get_args(Denominator)),
        "spectrum": (spectrum, ("gram", "lanczos")),
        "method": (method, get_args(Method)),
    }
    _check(task, choices, least)
    size = batch_size if definition == "batch" else 1
    layout = Layout.of(task.params)
    sets = {name: Units(samples, size, task.device) for name, samples in _sets(task).items()}
    kept = {name: evenly_spaced(units.total, max_gram_samples) for name, units in sets.items()}
    budget = memory_budget - 8.0 * eigenvectors * layout.parameters
    plan = plan_memory(layout.parameters, tuple(len(numbers) for numbers in kept.values()), budget)
    engine = GradientEngine(task, plan.workspace, method)
    theta = layout.flatten(task.params)
    found = {
        name: gather(engine, units, kept[name], plan, here, name, track)
        for (name, units), here in zip(sets.items(), plan.kept, strict=True)
    }
    gathered = time.perf_counter()

    forget, retain = found["forget"], found["retain"]
    gram, spectra_of_groups = _grams(found, layout, groups)
    grams = {"forget": gram[: forget.n, : forget.n], "retain": gram[forget.n :, forget.n :]}
    cross = gram[: forget.n, forget.n :]
    spectra = {
        name: _lanczos(engine, sets[name], part, eigenpairs, plan.workspace)
        if spectrum == "lanczos"
        else spectrum_of_gram(grams[name])
        for name, part in found.items()
    }
    o = retain.diagonal
    if denominator == "full":
        o = np.float32(task.phi) * forget.diagonal + np.float32(1 - task.phi) * retain.diagonal
    ratios = SortedRatios.of(forget.diagonal, o)
    analysed = {
        name: SetAnalysis(
            ids=sample_ids(sets[name].samples),
            kept=part.kept,
            diagonal=part.diagonal,
            mean=part.mean,
            trace=part.trace,
            losses=part.losses,
            squared_norms=part.squared_norms,
            embeddings=part.embeddings,
            gram=grams[name],
            spectrum=spectra[name],
            groups=spectra_of_groups[name],
            vectors=_vectors(part, spectra[name], eigenvectors),
            tables=_tables(part, ratios, theta, exponents, name, track),
        )
        for name, part in found.items()
    }
    inputs = FeatureInputs(
        forget=SetStatistics(grams["forget"], forget.losses, forget.embeddings),
        retain=SetStatistics(grams["retain"], retain.losses, retain.embeddings),
        cross=cross,
        ratios=ratios,
        depth_profile=depth.profile(layout.names, [p.stop - p.start for p in layout.slices], forget.diagonal),
        phi=task.phi,
        known_share=task.known_share,
        denominator=denominator,
    )
    values, ranges = features(inputs), intervals(inputs)
    complaints = engine.warnings + too_few(inputs, values, ranges)
    for complaint in complaints:
        warnings.warn(complaint, FisherWarning, stacklevel=2)
    analysis = FisherAnalysis(
        identity=fisher_identity(task),
        definition=definition,
        batch_size=size,
        denominator=denominator,
        phi=task.phi,
        known_share=task.known_share,
        layout=layout,
        theta=theta,
        **analysed,
        cross=cross,
        denominator_diagonal=o,
        values=values,
        intervals=ranges,
        warnings=complaints,
        record=_record(engine, found, gathered - started, time.perf_counter() - started),
        device=str(task.device),
    )
    analysis.__dict__["ratios"] = ratios  # sorted already
    return analysis


def fisher_identity(task: Task) -> dict[str, str]:
    """Content hashes of what an analysis depends on; the part of ``task.identity`` that it needs."""
    hashes = {f"data.fisher.{name}": fingerprint(samples) for name, samples in _sets(task).items()}
    return {"model": model_hash(task.model), "loss": task.loss_name, **hashes}


def _sets(task: Task) -> dict[str, Any]:
    return {"forget": task.forget, "retain": task.retain}


def _check(
    task: Task, choices: Mapping[str, tuple[str, tuple[str, ...]]], least: Mapping[str, tuple[int, int]]
) -> None:
    """``choices`` : each argument and what it may be. ``least`` : each number and the smallest it may be."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise ConfigError(f"{name} must be {' or '.join(known)}, got {value!r}", "analyse")
    for name, (number, lowest) in least.items():
        if number < lowest:
            raise ConfigError(f"{name} must be at least {lowest}, got {number}", "analyse")
    if not task.params:
        raise ModelError("the model has no parameters", task.name, "give a trained model")


def _grams(
    found: Mapping[str, GradientSet], layout: Layout, groups: Grouping | None
) -> tuple[Floats, dict[str, dict[str, Floats]]]:
    """(Gram matrix of all kept rows, eigenvalues of each set and group)."""
    rows = [part.rows for part in found.values()]
    whole = np.zeros((sum(map(len, rows)),) * 2)
    eigenvalues: dict[str, dict[str, Floats]] = {name: {} for name in found}
    labels = [""] * len(layout.names) if groups is None else _labels(layout, groups)
    for label, gram in gram_by_group(rows, layout.groups(labels)):
        whole += gram
        first = 0
        for name, part in found.items():
            own = slice(first, first := first + part.n)
            if groups is not None:
                eigenvalues[name][label] = spectrum_of_gram(gram[own, own]).eigenvalues
    return whole, eigenvalues


def _labels(layout: Layout, groups: Grouping) -> list[str]:
    if callable(groups):
        return [groups(name) for name in layout.names]
    if groups == "layer":
        return layout.layers
    if groups == "block":
        return depth.stages(layout.names)
    raise ConfigError(f"no groups '{groups}'", "analyse", "use layer, block, or a function of a parameter's name")


def _lanczos(engine: GradientEngine, units: Units, part: GradientSet, k: int, memory: float) -> Spectrum:
    rows = part.rows if part.n == units.total else RecomputedRows(engine, units, 0.0)
    return lanczos_spectrum(rows, k, part.trace, memory=memory)


def _vectors(part: GradientSet, spectrum: Spectrum, k: int) -> NDArray[np.float32]:
    if not k:
        return np.zeros((0, len(part.diagonal)), np.float32)
    return parameter_vectors(part.rows, spectrum, k)


def _tables(
    part: GradientSet,
    ratios: SortedRatios,
    theta: NDArray[np.floating],
    exponents: Sequence[float],
    name: str,
    track: Track,
) -> dict[float, RowTables]:
    return {
        exponent: RowTables.of(
            ratios, theta, tracked(part.rows, f"damage of the {name} set", track), part.n, exponent=exponent
        )
        for exponent in map(float, exponents)
    }


def _record(engine: GradientEngine, found: Mapping[str, GradientSet], gradients: float, total: float) -> dict[str, Any]:
    return {
        "versions": {"ssdtune": ssdtune.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "feature_version": FEATURE_VERSION,
        "machine": platform.machine(),
        "device": str(engine.task.device),
        "seconds_per_gradient": engine.pace.seconds,
        "method": "vectorised" if engine.pace.next_step(2).vectorised else "loop",
        "vectorising_failed": engine.pace.failure,
        "embeddings": engine.bottleneck.name if engine.bottleneck else "",
        "rows": {name: part.note for name, part in found.items()},
        "seconds": {"gradients": gradients, "total": total},
    }
