"""The spectral update: natural-gradient ascent of the forget loss in the metric of the retain Fisher information.

Notation: J_S the mean loss of set S, ḡ_S its gradient, F_r the retain Fisher matrix, D = 1 or the Fisher diagonal with
a floor, scaled such that F_r's largest eigenvalue against it is 1 (``fisher.metric``). T times, from the untouched
model,

    theta <- theta + eta |theta| / sqrt(T) · d / |d|,        d = (F_r + mu D)⁻¹ (ḡ_f - w_r ḡ_r).

F_r, D and |theta| are those of the untouched model, and so is the first gradient, over all samples; the later ones are
of a batch of each set. So T = 1 costs no pass at all, T > 1 costs T - 1 gradients. Small mu spares all that the retain
set feels, large mu is plain ascent. The trust region (``limit = "damage"``, T = 1) gives the predicted retain loss
increase in place of eta. The update is ours; start values come from a small exploration, not from a publication.
"""

from __future__ import annotations

from ssdtune.progress import Track
from ssdtune.task import Task
from ssdtune.unlearning.ft import LR
from ssdtune.unlearning.method import Analyse, BaseMethod, Knob, Options
from ssdtune.unlearning.spectral_update import DAMAGE, ETA, MU, WEIGHT, SpectralOptions, SpectralUnlearner


class Spectral(BaseMethod):
    """The method."""

    name, sampler = "spectral", "ei"
    uses_analysis = True  # its own
    summary = "Ascent of the forget loss that spares what the retain set's Fisher information feels"
    Options: type[Options] = SpectralOptions

    def knobs(self, options: SpectralOptions) -> tuple[Knob, ...]:
        """What these options leave to be searched; raises ValueError for options that exclude each other."""
        if options.limit == "damage" and options.steps > 1:
            raise ValueError("limit = 'damage' foresees one step only: take steps = 1, or limit = 'length'")
        size = (
            Knob(ETA, *options.eta, about="length over that of the parameters")
            if options.limit == "length"
            else Knob(DAMAGE, *options.damage, about="predicted retain loss increase over the retain loss")
        )
        repair = (Knob(LR, *options.lr, about="step length of the repair"),) if options.repair else ()
        return (
            Knob(MU, *options.mu, about="damping over the largest retain eigenvalue"),
            size,
            Knob(WEIGHT, *options.w_r, about="weight of the retain gradient"),
            *repair,
        )

    def published(self, options: SpectralOptions) -> list[dict[str, float]]:
        """Starts, from an exploration of five simulated tasks at T = 8: a careful one and a bold one."""
        common = {MU: 0.4, DAMAGE: 0.1, LR: 1.0}
        starts = [common | {WEIGHT: weight, ETA: eta} for weight, eta in ((3.6, 0.1), (2.0, 0.07))]
        return [{knob.name: knob.clip(start[knob.name]) for knob in self.knobs(options)} for start in starts]

    def prepare(self, task: Task, options: SpectralOptions, *, analyse: Analyse, track: Track) -> SpectralUnlearner:
        return SpectralUnlearner(task, options, self, track)
