"""Schedules for SSD as methods that studies of this process find by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssdtune.dampening import dampening_factors, ratio
from ssdtune.fisher.gather import evenly_spaced
from ssdtune.fisher.gradients import GradientEngine
from ssdtune.fisher.layout import Layout
from ssdtune.fisher.spectrum import spectrum_of_gram
from ssdtune.fisher.units import Units
from ssdtune.progress import Track
from ssdtune.task import Chosen, Samples, Task
from ssdtune.unlearning.method import Analyse, BaseMethod, BaseUnlearner, Knob, Options, Setting, Stage, analysis_passes
from ssdtune.unlearning.methods import METHODS

PREFIX = "schedule-"
HELD = 0.9  # of the retain trace, by the eigenvectors that are projected off
MOST = 256  # samples of a set whose gradients are kept


@dataclass(frozen=True, eq=False)
class Fisher:
    """What a schedule may look at: theta, f, o (P,), gradient rows of both sets (n, P), and the layers' places."""

    theta: Tensor
    f: Tensor
    o: Tensor
    forget: Tensor
    retain: Tensor
    layers: Mapping[str, list[slice]]

    @property
    def r(self) -> Tensor:
        return ratio(self.f, self.o)


Schedule = Callable[[Fisher], Callable[[Setting], Tensor]]
"""What is worked out once, and then parameters (P,) by setting."""

ALPHA = Knob("alpha", 0.1, 300.0)
LAMBDA = Knob("lambda", 0.03, 300.0)
EXPONENT = Knob("exponent", 0.05, 4.0)
RHO = Knob("rho", 1e-4, 0.5)
KAPPA = Knob("kappa", 1e-3, 1.0)


def ssd_on(r: Tensor, theta: Tensor, exponent: float | None = 1.0) -> Callable[[Setting], Tensor]:
    """SSD with another r; ``exponent`` None: the setting's."""
    ones = torch.ones_like(r)

    def at(setting: Setting) -> Tensor:
        power = setting["exponent"] if exponent is None else exponent
        return theta * dampening_factors(r, ones, setting.get("alpha", setting["lambda"]), setting["lambda"], power)

    return at


def layers_eigen(fisher: Fisher) -> Callable[[Setting], Tensor]:
    r = fisher.r.clone()
    whole = eigenvalues(fisher.forget)[0] / eigenvalues(fisher.retain)[0]
    for places in fisher.layers.values():
        own = [eigenvalues(torch.cat([rows[:, p] for p in places], 1))[0] for rows in (fisher.forget, fisher.retain)]
        if min(own) > 0:
            for place in places:
                r[place] *= float(whole / (own[0] / own[1]))
    return ssd_on(r, fisher.theta)


def layers_rank(fisher: Fisher) -> Callable[[Setting], Tensor]:
    values = {g: eigenvalues(torch.cat([fisher.forget[:, p] for p in ps], 1)) for g, ps in fisher.layers.items()}
    ranks = {g: effective_rank(each) for g, each in values.items()}
    mean, r = float(np.mean(list(ranks.values()))), fisher.r

    def at(setting: Setting) -> Tensor:
        found = fisher.theta.clone()
        for layer, places in fisher.layers.items():
            own = torch.cat([r[place] for place in places])
            count = min(round(setting["rho"] * ranks[layer] / mean * len(own)), len(own))
            if count:
                alpha = float(own.kthvalue(len(own) - count + 1).values)
                for place in places:  # r >= alpha, as the count says
                    shrink = (setting["kappa"] * alpha / r[place]).clamp(max=1)
                    found[place] *= torch.where((r[place] >= alpha) & (r[place] > 0), shrink, 1.0)
        return found

    return at


def slope(fisher: Fisher) -> Callable[[Setting], Tensor]:
    return ssd_on(fisher.r, fisher.theta, decay(eigenvalues(fisher.forget)))


def exponent(fisher: Fisher) -> Callable[[Setting], Tensor]:
    return ssd_on(fisher.r, fisher.theta, None)


def projected(fisher: Fisher, power: float | None = 1.0) -> Callable[[Setting], Tensor]:
    seen = leading(fisher.retain)
    f = (fisher.forget - (fisher.forget @ seen.T) @ seen).square().mean(0)
    return ssd_on(ratio(f * (fisher.f.sum() / f.sum()), fisher.o), fisher.theta, power)


def step_projected(fisher: Fisher) -> Callable[[Setting], Tensor]:
    seen, ssd = leading(fisher.retain), ssd_on(fisher.r, fisher.theta)

    def at(setting: Setting) -> Tensor:
        step = ssd(setting) - fisher.theta
        return fisher.theta + step - (seen @ step) @ seen

    return at


KINDS: dict[str, tuple[Schedule, tuple[Knob, ...]]] = {
    "layers-eigen": (layers_eigen, (ALPHA, LAMBDA)),
    "layers-rank": (layers_rank, (RHO, KAPPA)),
    "slope": (slope, (ALPHA, LAMBDA)),
    "exponent": (exponent, (ALPHA, LAMBDA, EXPONENT)),
    "power": (exponent, (LAMBDA, EXPONENT)),
    "projected": (projected, (ALPHA, LAMBDA)),
    "projected-power": (partial(projected, power=None), (LAMBDA, EXPONENT)),
    "step-projected": (step_projected, (ALPHA, LAMBDA)),
}


def eigenvalues(rows: Tensor) -> np.ndarray:
    """Of (1/n) Gᵀ G, falling (n,)."""
    double = rows.double()
    return spectrum_of_gram((double @ double.T).numpy()).eigenvalues


def leading(rows: Tensor) -> Tensor:
    """The eigenvectors (k, P) of (1/n) Gᵀ G that hold ``HELD`` of its trace."""
    double = rows.double()
    found = spectrum_of_gram((double @ double.T).numpy())
    k = int(np.searchsorted(np.cumsum(found.eigenvalues), HELD * found.trace)) + 1
    vectors: Tensor = torch.from_numpy(found.vectors[:, :k].copy()).T @ double
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit.to(rows.dtype)


def effective_rank(values: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues' shares; 0 where all are 0."""
    shares = values[values > 0] / max(values.sum(), np.finfo(float).tiny)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def decay(values: np.ndarray) -> float:
    """The slope of log eigenvalue against log rank, its sign turned, of those above 1e-6 of the first."""
    kept = values[values > 1e-6 * values[0]]
    steep = -np.polyfit(np.log(np.arange(1, len(kept) + 1)), np.log(kept), 1)[0] if len(kept) > 1 else 1.0
    return float(np.clip(steep, 0.1, 4.0))


class Prototype(BaseMethod):
    """A schedule as a method, for this module alone."""

    summary = "a prototype"
    uses_analysis = True

    def __init__(self, kind: str) -> None:
        self.name = PREFIX + kind
        self._schedule, self._knobs = KINDS[kind]

    def knobs(self, options: Any) -> tuple[Knob, ...]:
        return self._knobs

    def published(self, options: Any) -> list[dict[str, float]]:
        """SSD's own start."""
        start = {"alpha": 10.0, "lambda": 1.0, "exponent": 1.0, "rho": 0.02, "kappa": 0.1}
        return [{knob.name: start[knob.name] for knob in self._knobs}]

    def prepare(self, task: Task, options: Options, *, analyse: Analyse, track: Track) -> Scheduled:
        analysis = analyse()
        flat = (analysis.theta, analysis.forget.diagonal, analysis.denominator_diagonal)
        theta, f, o = map(torch.from_numpy, flat)
        layout = analysis.layout
        rows = gradients(task, task.forget), gradients(task, task.retain)
        fisher = Fisher(theta, f, o, *rows, layout.groups(layout.layers))
        return Scheduled(layout, self._schedule(fisher), analysis_passes(task, analysis))


class Scheduled(BaseUnlearner):
    """A schedule on one task."""

    def __init__(self, layout: Layout, at: Callable[[Setting], Tensor], preparation: float) -> None:
        self._layout, self._at, self.preparation = layout, at, preparation

    def __call__(self, setting: Setting, seed: int) -> Iterator[Stage]:
        yield Stage(self._layout.unflatten(self._at(setting)))


def register() -> None:
    """Let studies of this process find the prototypes by name."""
    for kind in KINDS:
        METHODS[PREFIX + kind] = f"benchmarks.schedules.prototypes:{PREFIX}{kind}"


def __getattr__(name: str) -> Prototype:
    """The prototype of a kind, as the table of methods looks it up."""
    if not name.startswith(PREFIX):
        raise AttributeError(name)
    return Prototype(name.removeprefix(PREFIX))


def gradients(task: Task, samples: Samples) -> Tensor:
    """(n, P) of at most ``MOST`` samples."""
    some = Chosen(samples, evenly_spaced(len(samples), MOST).tolist())
    return torch.cat([block.rows.clone() for block in GradientEngine(task).stream(Units(some))])
