"""Where to look next: the setting of largest expected improvement within a box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdtune.prior.belief import Belief, Settings

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    alpha: tuple[float, float]
    lam: tuple[float, float]


def coarse(box: Box, rng: np.random.Generator, per_axis: int = 28) -> Settings:
    a0, a1 = np.log10(box.alpha)
    l0, l1 = np.log10(box.lam)
    shift = rng.uniform(size=2)
    alpha = a0 + (a1 - a0) * np.concatenate([(np.arange(per_axis) + shift[0]) / per_axis, [0.0, 1.0]])
    lam = l0 + (l1 - l0) * np.concatenate([(np.arange(per_axis) + shift[1]) / per_axis, [0.0, 1.0]])
    a, l = (x.ravel() for x in np.meshgrid(alpha, lam, indexing="ij"))
    useful = (l <= a) | (a == a1)
    diag = np.clip(lam, a0, a1)
    a = np.concatenate([a[useful], diag])
    l = np.concatenate([l[useful], lam])
    return Settings(10**a, 10**l)


def propose(belief: Belief, box: Box, rng: np.random.Generator, taken: Settings, threshold: float = 0.01, rounds: int = 3):
    cand = coarse(box, rng)
    gain = _gain(belief, cand, taken, threshold)
    step = np.array([np.log10(box.alpha[1] / box.alpha[0]), np.log10(box.lam[1] / box.lam[0])]) / 28
    for _ in range(rounds):
        top = np.argsort(gain)[::-1][:4]
        la, ll = np.log10(cand.alpha[top]), np.log10(cand.lam[top])
        offs = rng.uniform(-1, 1, size=(24, 2)) * step
        na = np.clip((la[:, None] + offs[None, :, 0]).ravel(), *np.log10(box.alpha))
        nl = np.clip((ll[:, None] + offs[None, :, 1]).ravel(), *np.log10(box.lam))
        new = Settings(10**na, 10**nl)
        g = _gain(belief, new, taken, threshold)
        cand = Settings(np.concatenate([cand.alpha[top], new.alpha]), np.concatenate([cand.lam[top], new.lam]))
        gain = np.concatenate([gain[top], g])
        step = step / 3
    best = int(np.argmax(gain))
    return float(np.clip(cand.alpha[best], *box.alpha)), float(np.clip(cand.lam[best], *box.lam)), float(gain[best])


def _gain(belief, cand, taken, threshold):
    gain = belief.improvement(cand)
    if len(taken):
        from ssdtune.prior.surface import canonical
        a, k = canonical(cand.alpha, cand.lam)
        ta, tk = canonical(taken.alpha, taken.lam)
        d = np.sqrt((a[:, None] - ta) ** 2 + (k[:, None] - tk) ** 2).min(1)
        gain = np.where(d < threshold, -1.0, gain)
    return gain
