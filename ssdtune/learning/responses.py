"""How a recorded task responds to the methods beside SSD: at settings spread over their knobs, and in which units.

The knobs of a method that trains are the same numbers on every task. What makes them dimensionless is recorded beside
them, so that a prior may learn in either: with J_r the mean retain loss, lambda1 the largest eigenvalue of the retain
Fisher information, P parameters and ḡ_S the mean gradients,

    rate / unit, unit = sqrt(2 J_r / (P lambda1))  (``unlearning.foreseen.rate_unit``),    mu |ḡ_f| / |ḡ_r|.

Half of a design is the same for all tasks, so that settings can be compared over tasks; the other half is a task's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ssdtune.arrays import Array
from ssdtune.files import content_hash
from ssdtune.fisher.response import SpectralDamage
from ssdtune.fisher.result import FisherAnalysis
from ssdtune.objective.evaluation import Measures
from ssdtune.objective.evaluator import Evaluator
from ssdtune.plane.settings import KAPPA_RANGE, RHO_RANGE
from ssdtune.prior.experience import Response
from ssdtune.progress import silent
from ssdtune.task import Task
from ssdtune.unlearning.method import Knob, Method, Setting, run
from ssdtune.unlearning.methods import find_method
from ssdtune.unlearning.spectral_update import SpectralUnlearner
from ssdtune.unlearning.ssd import ALPHA, LAMBDA

SETTINGS = {"spectral": 40, "ssd-repair": 24, "ng": 20, "ft": 20}
"""Settings a task, published ones included, with each method's default options."""

MU_GRID, WEIGHT_GRID = np.geomspace(0.01, 10, 13), np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0])
"""Where the damage plane of the spectral update is recorded; over its length it is known in closed form."""

_LEADING = 32  # eigenvalues
_PLANE = {ALPHA: Knob("rho", *RHO_RANGE), LAMBDA: Knob("kappa", *KAPPA_RANGE)}  # what takes their place in a design

_NOTES = ("rho", "kappa", *(f"predicted_{name}" for name in SpectralDamage.__annotations__))


def respond(
    task: Task, analysis: FisherAnalysis, evaluator: Evaluator, methods: Sequence[str]
) -> tuple[dict[str, Response], dict[str, Array]]:
    """(responses by method, tables of the spectral update's damage plane and of the leading eigenvalues)."""
    responses, tables = {}, leading_eigenvalues(analysis)
    for name in methods:
        method, count = find_method(name), SETTINGS[name]
        options = method.Options()
        unlearner = method.prepare(task, options, analyse=lambda: analysis, track=silent)
        if isinstance(unlearner, SpectralUnlearner):
            tables |= spectral_plane(unlearner)
        chosen = design(method, count, analysis, task.name)
        rows = []
        for setting in chosen:
            seed = int(content_hash([task.name, name, *map(str, setting.values())])[:15], 16)
            stage = run(unlearner, setting, seed)
            found, notes = evaluator.measures(stage.params), unlearner.notes(setting)
            rows.append((_qualities(found), stage.cost, {n: v for n, v in notes.items() if n in _NOTES}))
        measures, passes, noted = zip(*rows, strict=True)
        responses[name] = Response(_columns(chosen), _columns(measures), np.array(passes, float), _columns(noted))
    return responses, tables


def design(method: Method, count: int, analysis: FisherAnalysis, key: str) -> list[Setting]:
    """The published settings, then points evenly spread over the knobs: the same for all tasks, then a task's own.

    SSD's two knobs are spread over selected fraction and depth, as everywhere in the prior.
    """
    knobs = method.knobs(method.Options())
    settings: list[Setting] = [dict(setting) for setting in method.published(method.Options())]
    common = (count - len(settings)) // 2
    seeds = (["responses", method.name], ["responses", method.name, key])
    for seed, wanted in zip(seeds, (common, count - len(settings) - common), strict=True):
        from scipy.stats import qmc  # half a second

        places = qmc.Halton(len(knobs), seed=int(content_hash(seed)[:8], 16)).random(wanted)
        settings += [_at(place, knobs, analysis) for place in places]
    return settings


def spectral_plane(unlearner: SpectralUnlearner) -> dict[str, Array]:
    """Predicted loss changes of an update as long as the parameters, (mu, w_r), and the metric's eigenvalues."""
    planes = [unlearner.space.plane(MU_GRID, [1.0], weight) for weight in WEIGHT_GRID]
    found = {f"spectral_{name}": np.concatenate([vars(p)[name] for p in planes], axis=1) for name in vars(planes[0])}
    return {**found, "spectrum_metric": _leading(unlearner.space.spectrum.eigenvalues)}


def leading_eigenvalues(analysis: FisherAnalysis) -> dict[str, Array]:
    """Of both sets' Fisher matrices, (_LEADING,); 0 beyond what there is."""
    sets = {"forget": analysis.forget, "retain": analysis.retain}
    return {f"spectrum_{name}": _leading(part.spectrum.eigenvalues) for name, part in sets.items()}


def _leading(values: Array) -> Array:
    return np.pad(np.asarray(values, float)[:_LEADING], (0, max(0, _LEADING - len(values))))


def _at(place: Array, knobs: tuple[Knob, ...], analysis: FisherAnalysis) -> Setting:
    setting = {knob.name: _PLANE.get(knob.name, knob).at(share) for knob, share in zip(knobs, place, strict=True)}
    if _PLANE.keys() <= setting.keys():
        alpha = float(analysis.alpha_at(setting[ALPHA]))
        setting |= {ALPHA: alpha, LAMBDA: alpha * setting[LAMBDA]}
    return setting


def _qualities(found: Measures) -> dict[str, float]:
    """The quality q of every set that was looked at, and what a clean target gives it where there is one."""
    names = {f"{name}_{next(iter(values))}" for name, values in found.values.items()}
    return {name: value for name, value in found.summary().items() if name in names or name.endswith("_clean")}


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Array]:
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}
